# A swarm of many sites in scripts/natlab, which sources this: builds their networks, has the first one
# share a file and all others download it at once, and prints who got what by which paths.
#
#                server          no limit of its own, but for --relay
#                  |
#      .---------core---------.
#    nat-s0   nat-s1  ..   nat-s9     each link limited: --up, --down
#      s0       s1           s9
#
# Sites and hosts are numbered in the order of --types.

swarm_types=(port-restricted port-restricted port-restricted port-restricted full-cone full-cone open
  symmetric symmetric udp-blocked)

swarm_sites=()

# Builds the networks for sites of these types.
build_swarm() {
  local type number=0 site
  tear_down
  add_router core
  add_ns server
  count_relayed
  link core to-server server to-core
  ip -n server route add default via "$near4"
  ip -n server route add default via "$near6"
  ip -n core route add 192.0.2.0/24 via "$far4"
  ip -n core route add 2001:db8:5::/64 via "$far6"
  for site in 0 1; do
    ip -n server addr add "${server4[site]}/32" dev lo
    ip -n server addr add "${server6[site]}/128" dev lo nodad
  done
  swarm_sites=()
  for type in "$@"; do
    site=s$number
    swarm_sites+=("$site")
    nat4[$site]=203.0.113.$((20 + number))
    other4[$site]=203.0.113.$((120 + number))
    public4[$site]=198.51.$((100 + number)).0
    public6[$site]=2001:db8:$((100 + number))::
    build_site "$site" "$type" 1 no
    limit_site "$site"
    number=$((number + 1))
  done
}

# Lets no more into a site, and out of it, than a home has; with queues of 100 ms.
limit_site() {
  in_ns core tc qdisc add dev "to-nat-$1" root tbf rate "${down}mbit" burst 128kb latency 100ms
  in_ns "nat-$1" tc qdisc add dev wan root tbf rate "${up}mbit" burst 128kb latency 100ms
}

# Measures $runs times.
measure_swarm() {
  local run
  build_swarm "$@"
  if [ "$delay" != 0 ] || [ "$loss" != 0 ]; then
    need_tunnels
    delay_start "$delay" "$loss"
  fi
  for ((run = 1; run <= runs; run++)); do
    run_swarm "$run" "$@"
  done
  delay_stop
}

# One run, of tracker and daemons of its own.
run_swarm() {
  local run=$1 site number family=4 address homes=() code=0 options=() counted
  shift
  # A record is made of JSON.
  [ "$mode" = swarm ] || local json=yes
  work=/run/lab/run
  [ -z "$logs" ] || work=$logs/swarm-$run
  rm -rf -- /run/lab/run "$work"
  mkdir -p "$work" /run/lab/run
  [ -e /run/lab/file ] || head -c $((size << 10)) /dev/urandom >/run/lab/file
  printf 'nat-%s\n' "${swarm_sites[@]}" | xargs "$python" -SEB "$lib/natlab-router" forget >/dev/null
  start_tracker
  for number in "${!swarm_sites[@]}"; do
    site=${swarm_sites[number]}
    homes+=("/run/lab/run/$site")
    mapfile -t options < <(daemon_options "${types[number]}")
    start_daemon "$site" "$site" "" "${options[@]}"
  done
  python natlab-ready 90 "${homes[@]}" >"$work/ready.log" 2>&1 || gone_wrong "the daemons to reach the tracker"
  register "${swarm_sites[0]}"
  python natlab-counters server >/dev/null
  python natlab-swarm "$json" "$run" "$patience" "$bin/client" /run/lab/run /run/lab/file \
    "${types[@]}" >"$work/measured" || code=$?
  [ "$alone" = no ] || measure_alone || code=1
  counted=$(python natlab-counters server)
  stop_all
  show_swarm
  [ $code = 0 ] || all_connected=no
}

# Has the second daemon get a file that the first alone has.
measure_alone() {
  head -c $((size << 10)) /dev/urandom >/run/lab/other
  "$bin/client" --home "/run/lab/run/${swarm_sites[0]}" register /run/lab/other 1 \
    -o /run/lab/run/other.p2p >/dev/null 2>"$work/register-other.log"
  python natlab-alone "$json" "$patience" "$bin/client" "/run/lab/run/${swarm_sites[1]}" \
    /run/lab/run/other.p2p /run/lab/other >"$work/alone"
}

# Options of the daemon at a site of this type, a line each.
daemon_options() {
  [[ $relay_for_swarm != "$1="* ]] || printf '%s\n' --relay-for-swarm "${relay_for_swarm#*=}"
}

show_swarm() {
  local tracker="${counted//,/, }"
  if [ $json = yes ]; then
    [ "$alone" = no ] || counted+=",\"alone\":$(cat "$work/alone")"
    sed "s|^{|{$counted,|" "$work/measured" >>"$results"
    [ "$mode" != swarm ] || tail -n 1 "$results"
  else
    cat "$work/measured"
    [ "$alone" = no ] || cat "$work/alone"
    echo "at the tracker: ${tracker//\"/}"
  fi
}
