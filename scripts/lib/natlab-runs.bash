# The programs of scripts/natlab, which sources this: starts them in the networks of the lab, and
# measures. Each run has a tracker and daemons of its own, and leaves one line of JSON in $results.

results=${NATLAB_RESULTS:-/run/lab/results}
started=()
rebinds=0

# Runs a program of the lab's own.
python() {
  local program=$1
  shift
  "$python" -SEB "$lib/$program" "$@"
}

# Starts a program $2.. in namespace $1, whose messages go to the file log.
start() {
  local ns=$1
  shift
  # In place of the shell in between, so that a signal meets the program itself.
  (HOME=/run/lab NO_COLOR=1 RUST_LOG=${RUST_LOG:-info} exec nsenter --net="/run/netns/$ns" -- "$@") \
    >"$log.out" 2>"$log.log" &
  started+=($!)
}

# Not asked to end but ended: saying goodbye takes them a second, and nobody will miss them.
stop_all() {
  { [ ${#started[@]} -eq 0 ] || kill -KILL "${started[@]}" && wait "${started[@]}"; } 2>/dev/null || true
  started=()
}

# Waits until a command succeeds. $1 says for what.
until_succeeds() {
  local what=$1
  shift
  for _ in {1..750}; do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.02
  done
  gone_wrong "$what"
}

gone_wrong() {
  tail -n 20 "$work"/*.log >&2
  die "waited for $1 in vain" "The messages of all programs are above."
}

# A key for each host.
make_keys() {
  local number folder
  for number in 1 2; do
    folder=/run/lab/keys/$number
    log=/run/lab/key work=/run/lab
    mkdir -p "$folder"
    start server "$bin/client" --home "$folder" daemon 1 127.0.0.1:9 --downloads "$folder/d"
    until_succeeds "a key" test -S "$folder/daemon-1/control.sock"
  done
  stop_all
}

# One cell: builds the lab for a pair and measures $4 times, from run number $3 on.
measure_pair() {
  local a=$1 b=$2 run
  for ((run = $3; run < $3 + $4; run++)); do
    # What a host has lost for good it has again in another lab.
    [[ $run != "$3" && $disturb != family-* ]] || prepare_pair "$a" "$b"
    measure_run "$a" "$b" "$run" "$([ "$section" = matrix ] && skew_of "$b" "$run" || echo "$skew")"
  done
  delay_stop
}

# Builds the lab for a pair.
prepare_pair() {
  delay_stop
  build "$1" "$2" "${hops%,*}" "${hops#*,}"
  if [ "$delay" != 0 ] || [ "$loss" != 0 ] || [ "$skew" != 0 ] || [ "$mode" = record ]; then
    need_tunnels
    delay_start "$delay" "$loss"
  fi
  [ "$disturb$stall" = nono ] || slow_down b "$rate"
  await_links
}

# One run: prints its line, and adds it to the results.
measure_run() {
  local a=$1 b=$2 run=$3 skew=$4 host_b=b family=4 shares=$sharer takes=b address before bytes
  local nat_a nat_b way_a way_b verdict file measured words counted line daemon_a daemon_b
  case $b in same*) host_b=a2 ;; esac
  case $a,$b in *firewall6*) family=6 ;; esac
  if [ "$shares" = both ]; then
    shares=a
    ((run % 2)) || shares=b
  fi
  [ $shares = a ] || takes=a
  [ -d /run/lab/keys ] || make_keys
  [ -e /run/lab/file ] || head -c $((size << 10)) /dev/urandom >/run/lab/file
  work=/run/lab/run
  [ -z "$logs" ] || work=$logs/$a-$b-$run
  rm -rf -- /run/lab/run "$work"
  mkdir -p "$work" /run/lab/run

  # New daemons have new ports, but a port outside may be that of an old flow's.
  routers | xargs "$python" -SEB "$lib/natlab-router" forget >/dev/null
  start_tracker
  [ "$mode" != idle ] || make_manifest
  start_daemon a a 1
  daemon_a=${started[-1]}
  start_daemon b "$host_b" 2
  daemon_b=${started[-1]}
  before=0
  if await_tracker; then
    [ "$mode" = idle ] || register "$shares"
    [ "$skew" = 0 ] || skew "$skew"
    before=$(server_bytes)
    { read -r verdict file && read -r measured && read -r words; } < <(measure 2>"$work/measure.log") ||
      die "the run could not be watched: $(tail -n 1 "$work/measure.log")" "Look at --logs DIR."
    [ "$skew" = 0 ] || skew 0
  else
    verdict=no file=- measured='{"connected":false,"complete":false}' words='no way to the tracker'
  fi
  bytes=$(($(server_bytes) - before))
  # shellcheck disable=SC2046 # Names of namespaces.
  counted=$(python natlab-counters $(routers) server)
  stop_all
  [ "$file" = - ] || cmp -s -- "$file" /run/lab/file || die "the download differs" "Report this."
  [ "$verdict" = yes ] || all_connected=no
  line=$(show_run)
  # In one piece: other labs add to the same file.
  echo "$line" >>"$results"
  if [ $json = yes ]; then echo "$line"; else show_words; fi
}

# Waits until both daemons are connected to the tracker, and leaves in `nat_a` and `nat_b` what they
# know of their NATs, and in `way_a` and `way_b` how they reach it. It may be that no way leads there from a site that keeps UDP in; any other finds one.
await_tracker() {
  local longest=90
  case $a,$b in *udp-*) longest=$patience ;; esac
  read -r nat_a nat_b way_a way_b < \
    <(python natlab-ready $longest /run/lab/run/a /run/lab/run/b 2>>"$work/ready.log") && return
  nat_a=- nat_b=- way_a=- way_b=-
  case $a,$b in
    *udp-*) return 1 ;;
    *) gone_wrong "the daemons to reach the tracker" ;;
  esac
}

# What is to be measured, with three lines of answer. See natlab-download.
measure() {
  local watched=("/run/lab/run/$takes" /run/lab/run/file.p2p) event
  if [ "$mode" = idle ]; then
    python natlab-idle "$bin/client" /run/lab/run/a /run/lab/run/b a "$host_b" "${watched[1]}" \
      /run/lab/file "$idle" "$patience" "${server4[@]}" "${server6[@]}"
  elif [ "$disturb" != no ]; then
    mapfile -t event < <(event_of "$disturb")
    python natlab-disturb "$bin/client" "${watched[@]}" "$((patience + 60))" "$host_b" \
      "$python" -SEB "$lib/natlab-router" "${event[@]}"
  elif [ "$stall" = yes ]; then
    python natlab-stall "$bin/client" "${watched[0]}" /run/lab/run/a "${watched[1]}" "$((patience + 60))" \
      "$host_b" server
  else
    python natlab-download "$bin/client" "${watched[0]}" "/run/lab/run/$shares" "${watched[1]}" \
      "$patience" "$settling" a "$host_b"
  fi
}

# Arguments of natlab-router for this event, a line each.
event_of() {
  local site=${1#*-} ns
  case $1 in
    reboot-*) echo forget && routers "$site" ;;
    sleep-a) printf '%s\n' sleep a "$sleep" "$daemon_a" ;;
    sleep-b) printf '%s\n' sleep "$host_b" "$sleep" "$daemon_b" ;;
    family-a) printf '%s\n' family a /run/lab/run/a ;;
    family-b) printf '%s\n' family "$host_b" /run/lab/run/b ;;
    move-a) printf '%s\n' move a ;;
    move-b) printf '%s\n' move "$host_b" ;;
    uplink-*) printf '%s\n' uplink "$(outermost "$site")" "${nat4[$site]}" "${other4[$site]}" ;;
    rebind-*)
      printf '%s\n' rebind $((run % 10))
      for ns in $(routers "$site"); do
        echo "$ns=$(outside_address "$ns")"
      done
      ;;
  esac
}

# Options, a line each, of a tracker that can be reached from where little is let out, and that has
# a second address to study NATs from: as far as this one knows them.
tracker_options() {
  local help second=${server4[1]}
  help=$("$bin/tracker" --help)
  [ $family = 4 ] || second=${server6[1]}
  # One that knows --tcp serves TCP wherever it listens.
  [[ $help != *--tcp* ]] || printf '%s\n' --listen '[::]:59000' --listen '[::]:443'
  [[ $help != *--alt-address* ]] || printf '%s\n' --alt-address "$second"
  [ -z "$relay" ] || printf '%s\n' --relay "$relay"
}

start_tracker() {
  local key options
  log=$work/tracker
  mapfile -t options < <(tracker_options)
  start server "$bin/tracker" --home /run/lab/tracker --json "${options[@]}"
  until_succeeds "the tracker" grep -q '"key"' "$log.out"
  key=$(sed -n 's/.*"key":"\([^"]*\)".*/\1/p' "$log.out")
  address="${server4[0]}:59000#$key"
  [ $family = 4 ] || address="[${server6[0]}]:59000#$key"
}

# Daemon $1 in namespace $2 with key $3, or one of its own, and more options.
start_daemon() {
  local home=/run/lab/run/$1 key=$3
  mkdir -p "$home/daemon-1"
  chmod 700 "$home" "$home/daemon-1"
  [ -z "$key" ] || cp -p "/run/lab/keys/$key/daemon-1/key" "$home/daemon-1/key"
  log=$work/$1
  start "$2" "$bin/client" --home "$home" daemon 1 "$address" --downloads "$home/downloads" "${@:4}"
}

# Has daemon A, or $1, share the file.
register() {
  "$bin/client" --home "/run/lab/run/${1:-a}" register /run/lab/file 1 \
    -o /run/lab/run/file.p2p >/dev/null 2>"$work/register.log"
}

# A manifest of a file that nobody has: who registered it is gone.
make_manifest() {
  start_daemon maker server ''
  python natlab-ready 90 /run/lab/run/maker >/dev/null || gone_wrong "a manifest"
  register maker
  kill "${started[-1]}"
  wait "${started[-1]}" 2>/dev/null || true
  unset 'started[-1]'
}

# Bytes in and out of the tracker's namespace so far.
server_bytes() {
  in_ns server cat /proc/net/dev | awk '/ to-/ { sum += $2 + $10 } END { printf "%d\n", sum }'
}

show_run() {
  printf '{"a":"%s","b":"%s","run":%d,"event":"%s","sharer":"%s",' \
    "$a" "$b" "$run" "$disturb" "$shares"
  printf '"delay_ms":%d,"skew_ms":%d,"loss":%s,' "$delay" "$skew" "$loss"
  printf '"nat_a":"%s","nat_b":"%s","way_a":"%s","way_b":"%s","tracker_bytes":%d,%s,%s\n' \
    "$nat_a" "$nat_b" "$way_a" "$way_b" "$bytes" "$counted" "${measured#\{}"
}

show_words() {
  printf '%-20s %-20s %s shares  %s  tracker %d bytes\n' "$a" "$b" "$shares" "$words" "$bytes"
}
