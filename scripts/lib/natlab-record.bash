# The record of scripts/natlab, which sources this: its sections, and what each measures. A section has
# labs, results and a part of the file of its own; what the file says of other sections stays.

usual_sections=(matrix relayed stall uplink sleep swarm)
all_sections=("${usual_sections[@]}" family)

# Skews of a matrix, in turn after the runs that have none, in ms. Each is there twice, and the other one
# shares then.
record_skews=(50 100 200 300 -100 -300 100 50 300 200 -300 -100)

# What has no path but by the relay, for every reason there is; then what has one that begins there.
relayed_pairs=(
  'symmetric symmetric' 'symmetric cgn-random' 'address-dependent symmetric' 'symmetric-sequential symmetric'
  'symmetric-block cgn-random' 'open udp-443' 'port-restricted udp-443' 'port-restricted udp-blocked'
  'double-nat udp-blocked' 'symmetric udp-blocked' 'udp-443 udp-blocked' 'udp-blocked udp-blocked'
  'port-restricted symmetric' 'port-restricted symmetric-sequential' 'symmetric-block symmetric-block'
)

# Each technique that guesses.
stall_pairs=(
  'port-restricted symmetric' 'port-restricted symmetric-block' 'double-nat cgn-random'
  'port-restricted symmetric-sequential' 'symmetric-sequential symmetric-sequential'
  'symmetric-block symmetric-block'
)

# Direct by checks, with one NAT and with two; direct by a guess; and by relay, of UDP and of TCP.
uplink_pairs=(
  'port-restricted port-restricted' 'double-nat port-changing' 'address-restricted full-cone'
  'port-restricted symmetric' 'symmetric symmetric' 'port-restricted udp-blocked'
)

# As long as --sleep, and then for longer than anybody waits for who says nothing.
sleep_pairs=('port-restricted port-restricted' 'port-restricted symmetric' 'symmetric symmetric')
sleeps=(5 40)

# Sites that have both.
family_pairs=('open open' 'open dual-stack' 'dual-stack dual-stack')

# What goes without saying in this section.
set_out_section() {
  : "${runs:=20}" "${guess_runs:=$((runs + runs * 3 / 5))}" "${delay:=25}"
  case $section in
    matrix | '') : "${size:=8}" "${sharer:=both}" ;;
    relayed) settling=0 && : "${size:=8}" "${sharer:=both}" ;;
    stall) stall=yes && : "${size:=20480}" "${relay:=16M}" ;;
    swarm) types=("${swarm_types[@]}") && : "${size:=65536}" "${patience:=300}" ;;
    *) : "${size:=32768}" ;;
  esac
}

# Labs of section $1 side by side.
section_jobs() {
  case $1 in
    matrix) echo "$jobs" ;;
    relayed | swarm) echo 1 ;;
    *) echo $((jobs < 2 ? jobs : 2)) ;;
  esac
}

# Runs of a cell of the matrix.
matrix_runs() {
  if must_guess "$1" "$2"; then echo "$guess_runs"; else echo $((runs + runs * 3 / 5)); fi
}

# By how much B hears the tracker late in run $2 of a matrix. At A's site both share a link to it.
skew_of() {
  local place=$((($2 - 1) % (runs + runs * 3 / 5)))
  case $1,$((place < runs)) in
    same*,* | *,1) echo 0 ;;
    *) echo "${record_skews[(place - runs) % ${#record_skews[@]}]}" ;;
  esac
}

# Lines as of `pairs`: those of $2.. with event $1, at either side unless it is none.
with_event() {
  local pair side
  for pair in "${@:2}"; do
    for side in -a -b; do
      [ "$1" != no ] || side=''
      # shellcheck disable=SC2086 # Two types.
      if all_asked_for $pair && { [ "$1" = no ] || is_possible "$1$side" $pair; }; then
        echo "$pair 1 $runs $1$side"
      fi
      [ "$1" != no ] || break
    done
  done
}

all_asked_for() {
  is_one_of "$1" "${site_types[@]}" && is_one_of "$2" "${site_types[@]}" && is_asked_for "$1" && is_asked_for "$2"
}

measure_section() {
  case $section in
    matrix) measure_pairs pairs ;;
    relayed) measure_pairs with_event no "${relayed_pairs[@]}" ;;
    stall) measure_pairs with_event no "${stall_pairs[@]}" ;;
    uplink) measure_pairs with_event uplink "${uplink_pairs[@]}" ;;
    family) measure_pairs with_event family "${family_pairs[@]}" ;;
    sleep)
      measure_pairs with_event sleep "${sleep_pairs[@]}"
      sleep=${sleeps[1]}
      measure_pairs with_event sleep "${sleep_pairs[0]}"
      ;;
    swarm) measure_swarm "${types[@]}" ;;
  esac
}

# All sections that were asked for, one after the other.
run_record() {
  local code=0 ended name known
  keep_results
  for name in "${sections[@]}"; do
    known=$kept/$name.json ended=0
    if [ -z "$kept" ] || [ ! -e "$known" ]; then
      measure_results "$name" || ended=$?
      [ "$ended" -le 1 ] || return "$ended"
      [ -z "$kept" ] || cp -- "$NATLAB_RESULTS" "$known"
    fi
    ((ended <= code)) || code=$ended
    tell_section "$name" "$([ -z "$kept" ] && echo "$NATLAB_RESULTS" || echo "$known")" || return
  done
  left_out_is "$code"
}

measure_results() {
  : >"$NATLAB_RESULTS"
  printf '%(%H:%M:%S)T section %s\n' -1 "$1" >&2
  NATLAB_SECTION=$1 run_labs "$(section_jobs "$1")"
}

# Section $1 of the record, by the results $2.
tell_section() {
  local what=("$2" "$delay" "${site_types[@]}" "${same_types[@]}")
  python natlab-report section "${record:?}" "$1" "$(section_jobs "$1")" "${what[@]}" || return
  [ "$1" != matrix ] || [ -z "$picture" ] || python natlab-report picture "${what[@]}" >"$picture"
}
