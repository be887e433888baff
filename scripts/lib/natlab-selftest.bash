# scripts/natlab --selftest: measures that each NAT does what its name says, and that links are as
# slow as they were asked to be. Sourced by scripts/natlab.

failures=0
left_out=no

# How often to measure: a busy machine is late, and a random port may be any.
tries=3

# Measures by $3.., which leaves words in $measured; those that should be, $2, must all be among them.
expect() {
  local name=$1 expected=$2 try verdict
  shift 2
  for ((try = 1; try <= tries; try++)); do
    measured=
    "$@" || measured+=" failed"
    verdict=$(judge "$expected")
    printf '%-6s %-34s %s\n' "$verdict" "$name" "$measured"
    [ "$verdict" = WRONG ] || return 0
    printf '%-6s %-34s %s\n' '' 'expected' "$expected"
  done
  failures=$((failures + 1))
}

# Tells whether all words of $1 were measured.
judge() {
  local word
  for word in $1; do
    [[ " $measured " == *" $word "* ]] || { echo WRONG && return; }
  done
  echo ok
}

probe() {
  local host=$1
  shift
  in_ns "$host" "$python" -SEB "$lib/natlab-probe" "$@"
}

# Builds a lab with a server for probes. Arguments as for build.
lab() {
  stop_all
  delay_stop
  build "$@"
  servers=("${server4[@]}")
  case $1 in firewall6) servers=("${server6[@]}") ;; esac
  serve server "${servers[@]}"
}

# Starts a server for probes in namespace $1.
serve() {
  log=/run/lab/probe-$1 work=/run/lab
  start "$1" "$python" -SEB "$lib/natlab-probe" serve "${@:2}"
  until_succeeds "the server" grep -q ready "$log.out"
}

# Tells whether $1, which has a median, is near so many ms.
near() {
  ! [[ $1 =~ median:([0-9]+) ]] || ((BASH_REMATCH[1] < $2 || BASH_REMATCH[1] >= $2 + 10)) ||
    echo "near-$2-ms"
}

# Measures by a probe of site A.
by_probe() { measured=$(probe a "$@"); }

# Type, and what natlab-router does by $2.. to it: a mapping that nothing is sent over, and one that is
# used again.
measure_router() {
  local type=$1 unasked
  shift
  lab "$type" open 1 1
  rm -f /run/lab/unasked /run/lab/moved
  probe a lives "${servers[0]}" 3 >/run/lab/unasked &
  unasked=$!
  probe a moves "${servers[0]}" 3 >/run/lab/moved &
  until_succeeds "a mapping" test -s /run/lab/unasked -a -s /run/lab/moved
  python natlab-router "$@" >/dev/null
  wait $unasked $!
  measured=$(cat /run/lab/unasked /run/lab/moved | tr '\n' ' ')
}

# Type, what should become of mappings, and how natlab-router is called.
check_router() { expect "$1, $3" "$2" measure_router "$1" "${@:3}"; }

# Type, and what it should be.
check_type() { expect "$1" "$2" measure_nat "$1"; }
measure_nat() {
  lab "$1" open 1 1
  by_probe nat "${servers[@]}"
}

# The same of the lab there is.
measure_again() { by_probe nat "${servers[@]}"; }

# Type, and the pattern of its ports; of how many flows.
check_ports() { expect "$1" "$2" measure_ports "$1" "${3:-64}"; }
measure_ports() {
  lab "$1" open 1 1
  by_probe ports "${servers[@]}" "$2"
}

# Type, and what leaves its site.
check_leaves() { expect "$1" "$2" measure_leaves "$1"; }
measure_leaves() {
  lab "$1" open 1 1
  by_probe leaves "${servers[0]}"
}

# Tells whether $1 is $2 or little more: kernels have a few things of their own to say.
about() { (($1 < $2 || $1 > $2 + 5)) || echo "about-$2"; }

# Packets that host $1 has sent.
sent_by() {
  PYTHONPATH=$lib "$python" -SBc "from natlab_namespace import Packets; print(*Packets(['$1']).sent())"
}

# Type, and what is counted of 64 flows at its router, and of entries in its table.
check_flows() { expect "$1" "$2" measure_flows "$1"; }
measure_flows() {
  local entries
  lab "$1" open 1 1
  python natlab-counters nat-a >/dev/null
  probe a ports "${servers[@]}" 64 >/dev/null
  [[ $(python natlab-counters nat-a) =~ \"flows_a\":([0-9]+) ]]
  entries=$(in_ns nat-a cat /proc/sys/net/netfilter/nf_conntrack_count)
  measured="flows:${BASH_REMATCH[1]} entries:$entries $(about "$entries" 64)"
}

# What is counted where packets come in unasked.
measure_unasked_flows() {
  lab clash open 1 1
  probe a nat "${servers[@]}" >/dev/null
  [[ $(python natlab-counters nat-a) =~ \"flows_a\":([0-9]+) ]]
  measured=flows:${BASH_REMATCH[1]}
}

# What is counted of 40 packets of a host of type $1.
measure_packets() {
  local before sent
  lab "$1" open 1 1
  before=$(sent_by a)
  probe a trips "${servers[0]}" 40 >/dev/null
  sent=$(($(sent_by a) - before))
  measured="sent:$sent $(about $sent 40)"
}

measure_relayed() {
  lab port-restricted open 1 1
  python natlab-counters server >/dev/null
  in_ns a "$python" -SEc "
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    for first in 0x30, 0x40, 0x30:
        sock.sendto(bytes([first]) + bytes(99), ('${servers[0]}', 9))"
  [[ $(python natlab-counters server) =~ \"relayed_udp_bytes\":([0-9]+) ]]
  measured=relayed:${BASH_REMATCH[1]}
}

measure_tcp() {
  probe a leaves "${servers[0]}" >/dev/null
  [[ $(python natlab-counters server) =~ \"tracker_tcp_bytes\":([0-9]+) ]]
  measured=some:$((BASH_REMATCH[1] > 0))
}

# Type and seconds: whether a mapping outlives a silence.
measure_silence() {
  lab "$1" open 1 1
  by_probe lives "${servers[0]}" "$2"
}

# Host, address, how often to ask and the round trip that there should be.
measure_trips() {
  measured=$(probe "$1" trips "$2" "$3")
  measured+=" $(near "$measured" "$4")"
}

# Both ways: 1 - 0.8 * 0.8. Five standard deviations are 17 of a hundred.
measure_loss() {
  measured=$(probe a trips "${servers[0]}" 200)
  if [[ $measured =~ lost:([0-9]+) ]] && ((BASH_REMATCH[1] > 19 && BASH_REMATCH[1] < 53)); then
    measured+=" near-36-percent"
  fi
}

# Two types and the start of the second, in ms; what should come of the simplest punch.
check_punch() { expect "$1 to $2, ${3} ms late" "$4" measure_punch "$@"; }
measure_punch() {
  local host=b first
  lab "$1" "$2" 1 1
  case $2 in same*) host=a2 ;; esac
  need_tunnels
  delay_start 25 0
  probe a punch "${servers[0]}" a b >/run/lab/punch &
  first=$!
  measured=$(probe "$host" punch "${servers[0]}" b a "$3")
  wait $first
}

independent=mapping:endpoint-independent
open="filtering:endpoint-independent"
by_address="filtering:address-dependent"
by_port="filtering:address-and-port-dependent"
by_address_mapped=mapping:address-dependent
by_port_mapped=mapping:address-and-port-dependent

echo "NATs, as a host behind them sees them:"
check_type open "routed $independent port:kept $open unasked:ignored"
check_type firewall4 "routed $independent port:kept $by_port unasked:ignored"
check_type firewall6 "routed $independent port:kept $by_port unasked:ignored"
check_type full-cone "translated $independent port:kept $open unasked:ignored"
check_type address-restricted "translated $independent port:kept $by_address unasked:ignored"
check_type port-restricted "translated $independent port:kept $by_port unasked:ignored"
check_type port-changing "translated $independent port:changed $by_port unasked:ignored"
check_type clash "translated $independent port:kept $by_port unasked:moves"
check_type short-timeouts "translated $independent port:kept $by_port unasked:ignored"
check_type double-nat "translated $independent port:changed $by_port unasked:ignored"
# Who was heard unasked is at another address, and so is another port there.
check_type address-dependent "translated $by_address_mapped port:changed $by_port"
for type in symmetric-sequential symmetric-block symmetric cgn-random dual-stack; do
  check_type $type "translated $by_port_mapped port:changed $by_port"
done
# Two families, of which the other has no NAT.
lab dual-stack open 1 1
servers=("${server6[@]}")
serve server "${servers[@]}"
expect "dual-stack, by IPv6" "routed $independent port:kept $by_port unasked:ignored" measure_again
! is_possible_type gateway || check_type gateway "translated $independent port:kept $by_port unasked:ignored"

echo "Ports of many flows:"
check_ports address-dependent flows:some-range
check_ports symmetric-sequential flows:sequential
check_ports symmetric-block flows:block
check_ports symmetric flows:full-range
check_ports cgn-random flows:full-range
check_ports dual-stack flows:full-range

echo "What is counted of 64 flows:"
check_flows open "flows:0 entries:0"
for type in firewall4 firewall6 port-restricted symmetric cgn-random; do
  check_flows $type "flows:64 about-64"
done
# Seven of its own, and three that came in unasked.
expect "clash, and what comes in" flows:10 measure_unasked_flows

echo "What is counted of packets:"
for type in port-restricted firewall6; do
  expect "40 of a host, $type" about-40 measure_packets $type
done
expect "2 of 128 bytes to be relayed, 1 not" relayed:256 measure_relayed
expect "two connections of TCP" some:1 measure_tcp

echo "What is told of four runs, one of them relayed and one failed:"
for outcome in 'true,"path":"direct"' 'true,"path":"lan"' 'true,"path":"relay"' 'false,"path":null'; do
  printf '{"a":"open","b":"symmetric","run":1,"skew_ms":0,"tracker_bytes":9,"flows_a":null,"flows_b":7,'
  printf '"packets_a":5,"packets_b":6,"first_byte_s":0.2,"proven_ms":100,"kind":"host","complete":%s}\n' \
    "$outcome"
done >/run/lab/four
python natlab-report section /run/lab/four.md matrix 1 /run/lab/four 25 open symmetric
wanted='| open | symmetric | 4 | 50.0 | 25.0 | 100 | 100 | 200 | 200 | host | 5 | 5 | 6 | 6 | 7 | 9 |'
tell_lines() { measured="$(grep -cF "$wanted" /run/lab/four.md) line"; }
expect "in the table" "1 line" tell_lines
tell_picture() {
  measured=$(python natlab-report picture /run/lab/four 25 open symmetric |
    "$python" -SEc 'import sys, xml.etree.ElementTree as tree
for rect in tree.parse(sys.stdin).iter("{http://www.w3.org/2000/svg}rect"):
    print(rect.get("width") + rect.get("fill"))' | tr '\n' ' ')
}
expect "in the picture" "29#8fd19e 14.5#ffd27a 14.5#f0868a" tell_picture

echo "What is let out:"
check_leaves port-restricted "udp:53,443,59000 tcp:443,59000"
check_leaves udp-443 "udp:53,443 tcp:443,59000"
check_leaves udp-blocked "udp:none tcp:443,59000"

echo "Ports that are asked for:"
if is_possible_type gateway; then
  lab gateway open 1 1
  for way in pcp nat-pmp upnp; do
    expect "gateway, by $way" "granted at:${gateway4[a]} leads-in and-out" \
      by_probe mapped $way 192.168.1.1 "${servers[@]}"
  done
else
  left_out=yes
  tell_left_out gateway
fi
lab port-restricted open 1 1
expect "port-restricted, by pcp" refused by_probe mapped pcp 192.168.1.1 "${servers[@]}"

echo "Mappings in silence:"
udp_timeout=3
expect "short-timeouts of 3 s, after 1 s" alive measure_silence short-timeouts 1
expect "short-timeouts of 3 s, after 5 s" dead measure_silence short-timeouts 5
expect "port-restricted, after 5 s" alive measure_silence port-restricted 5

echo "Routers that forget, in use, and that get another uplink:"
check_router port-restricted "dead stays" forget nat-a
check_router firewall4 "dead stays" forget nat-a
check_router symmetric "dead moves" forget nat-a
check_router port-restricted "dead moves" rebind 0 nat-a=203.0.113.1
check_router port-changing "dead moves" rebind 3 nat-a=203.0.113.1
check_router double-nat "dead moves" rebind 3 outer-a=203.0.113.1 nat-a=100.64.0.2
check_router port-restricted "dead moves" uplink nat-a 203.0.113.1 203.0.113.17
check_router full-cone "dead moves" uplink nat-a 203.0.113.1 203.0.113.17
check_router double-nat "dead moves" uplink outer-a 203.0.113.1 203.0.113.17
lab full-cone open 1 1
for uplink in 203.0.113.17 203.0.113.1; do
  python natlab-router uplink nat-a 203.0.113.1 203.0.113.17 >/dev/null
  expect "full-cone, by way of $uplink" \
    "at:$uplink translated $independent port:kept $open unasked:ignored" measure_again
done

echo "A host that moves:"
check_router open "dead moves" move a
check_router firewall6 "dead moves" move a
check_router port-restricted "dead moves" move a

echo "The core and the routers of a site on the way to the server:"
for number in 1 2 3 4; do
  lab port-restricted open $number 1
  expect "$number hops" "routers:$((number + 1))" by_probe hops "${servers[0]}"
done
lab double-nat open 1 1
expect "1 hop, double-nat" routers:3 by_probe hops "${servers[0]}"
need_tunnels
delay_start 10 0
expect "the same on slow links" routers:3 by_probe hops "${servers[0]}"


echo "Between the hosts of two sites, as many routers on slow links as on others:"
own=198.51.100.138
lab open open 1 1
serve b "$own"
expect "1 hop each" routers:3 by_probe hops $own
delay_start 10 0
expect "the same on slow links" routers:3 by_probe hops $own
own=2001:db8:b::10
lab firewall6 open 1 2
serve b "$own"
delay_start 10 0
expect "IPv6, 1 and 2 hops, slow links" routers:4 by_probe hops $own

echo "Links of 25 ms, and with 20 % loss:"
own=198.51.100.138
lab port-restricted open 1 1
serve b "$own"
delay_start 25 0
expect "25 ms, to the server" "near-50-ms lost:0.0" measure_trips a "${servers[0]}" 40 50
expect "25 ms, to the other site" "near-50-ms lost:0.0" measure_trips a "$own" 40 50
delay=25
skew 100
expect "the server late at B, seen by A" near-50-ms measure_trips a "${servers[0]}" 20 50
expect "and by B" near-150-ms measure_trips b "${servers[0]}" 20 150
skew -100
expect "late at A, seen by A" near-150-ms measure_trips a "${servers[0]}" 20 150
expect "and by B" near-50-ms measure_trips b "${servers[0]}" 20 50
lab port-restricted open 1 1
delay_start 0 20
expect "20 % each way" near-36-percent measure_loss

echo "The simplest punch, over links of 25 ms:"
check_punch port-restricted port-restricted 0 met
check_punch port-changing double-nat 0 met
check_punch port-restricted port-restricted 100 met
# The trap that gives the type its name: one side's packets arrive before the other's have left.
check_punch clash clash 100 missed
check_punch port-restricted same 0 missed
check_punch port-restricted same-hairpin 0 met

stop_all
delay_stop
[ $failures -eq 0 ] || die "$failures of the above are not as named" "The kernel may do NAT differently."
[ $left_out = no ] || exit 77
