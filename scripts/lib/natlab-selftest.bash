# scripts/natlab --selftest: measures that each NAT does what its name says, and that links are as
# slow as they were asked to be. Sourced by scripts/natlab.

failures=0
left_out=no

# Compares what was measured, $2, with what should be, $3. Words of $3 must all be there.
expect() {
  local word verdict=ok
  for word in $3; do
    [[ " $2 " == *" $word "* ]] || verdict=WRONG
  done
  printf '%-6s %-34s %s\n' "$verdict" "$1" "$2"
  if [ $verdict = WRONG ]; then
    printf '%-6s %-34s %s\n' '' 'expected' "$3"
    failures=$((failures + 1))
  fi
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

# What natlab-router $2.. does to site A of type $1: a mapping that nothing is sent over, and one
# that is used again.
check_router() {
  local type=$1 expected=$2 unasked
  shift 2
  lab "$type" open 1 1
  rm -f /run/lab/unasked /run/lab/moved
  probe a lives "${servers[0]}" 3 >/run/lab/unasked &
  unasked=$!
  probe a moves "${servers[0]}" 3 >/run/lab/moved &
  until_succeeds "a mapping" test -s /run/lab/unasked -a -s /run/lab/moved
  python natlab-router "$@" >/dev/null
  wait $unasked $!
  expect "$type, $1" "$(cat /run/lab/unasked /run/lab/moved | tr '\n' ' ')" "$expected"
}

# Type, and what it should be.
check_type() {
  lab "$1" open 1 1
  expect "$1" "$(probe a nat "${servers[@]}")" "$2"
}

# Type, and the pattern of its ports; of how many flows.
check_ports() {
  lab "$1" open 1 1
  expect "$1" "$(probe a ports "${servers[@]}" "${3:-64}")" "$2"
}

# Type, and what leaves its site.
check_leaves() {
  lab "$1" open 1 1
  expect "$1" "$(probe a leaves "${servers[0]}")" "$2"
}

# Tells whether $1 is $2 or little more: kernels have a few things of their own to say.
about() { (($1 < $2 || $1 > $2 + 5)) || echo "about-$2"; }

# Packets that host $1 has sent.
sent_by() {
  PYTHONPATH=$lib "$python" -SBc "from natlab_namespace import Packets; print(*Packets(['$1']).sent())"
}

# Type, and what is counted of 64 flows at its router, and of entries in its table.
check_flows() {
  local entries
  lab "$1" open 1 1
  python natlab-counters nat-a >/dev/null
  probe a ports "${servers[@]}" 64 >/dev/null
  [[ $(python natlab-counters nat-a) =~ \"flows_a\":([0-9]+) ]]
  entries=$(in_ns nat-a cat /proc/sys/net/netfilter/nf_conntrack_count)
  expect "$1" "flows:${BASH_REMATCH[1]} entries:$entries $(about "$entries" 64)" "$2"
}

# Two types and the start of the second, in ms; what should come of the simplest punch.
check_punch() {
  local host=b first second
  lab "$1" "$2" 1 1
  case $2 in same*) host=a2 ;; esac
  need_tunnels
  delay_start 25 0
  probe a punch "${servers[0]}" a b >/run/lab/punch &
  first=$!
  second=$(probe "$host" punch "${servers[0]}" b a "$3")
  wait $first
  expect "$1 to $2, ${3} ms late" "$second" "$4"
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
expect "dual-stack, by IPv6" "$(probe a nat "${servers[@]}")" \
  "routed $independent port:kept $by_port unasked:ignored"
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
lab clash open 1 1
probe a nat "${servers[@]}" >/dev/null
# Seven of its own, and three that came in unasked.
[[ $(python natlab-counters nat-a) =~ \"flows_a\":([0-9]+) ]]
expect "clash, and what comes in" "flows:${BASH_REMATCH[1]}" flows:10

echo "What is counted of packets:"
for type in port-restricted firewall6; do
  lab $type open 1 1
  before=$(sent_by a)
  probe a trips "${servers[0]}" 40 >/dev/null
  sent=$(($(sent_by a) - before))
  expect "40 of a host, $type" "sent:$sent $(about $sent 40)" about-40
done
lab port-restricted open 1 1
python natlab-counters server >/dev/null
in_ns a "$python" -SEc "
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    for first in 0x30, 0x40, 0x30:
        sock.sendto(bytes([first]) + bytes(99), ('${servers[0]}', 9))"
[[ $(python natlab-counters server) =~ \"relayed_udp_bytes\":([0-9]+) ]]
expect "2 of 128 bytes to be relayed, 1 not" "relayed:${BASH_REMATCH[1]}" relayed:256
probe a leaves "${servers[0]}" >/dev/null
[[ $(python natlab-counters server) =~ \"tracker_tcp_bytes\":([0-9]+) ]]
expect "two connections of TCP" "some:$((BASH_REMATCH[1] > 0))" some:1

echo "What is told of four runs, one of them relayed and one failed:"
for outcome in 'true,"path":"direct"' 'true,"path":"lan"' 'true,"path":"relay"' 'false,"path":null'; do
  printf '{"a":"open","b":"symmetric","run":1,"skew_ms":0,"tracker_bytes":9,"flows_a":null,"flows_b":7,'
  printf '"packets_a":5,"packets_b":6,"first_byte_s":0.2,"proven_ms":100,"kind":"host","complete":%s}\n' \
    "$outcome"
done >/run/lab/four
python natlab-report section /run/lab/four.md matrix 1 /run/lab/four 25 open symmetric
wanted='| open | symmetric | 4 | 50.0 | 25.0 | 100 | 100 | 200 | 200 | host | 5 | 5 | 6 | 6 | 7 | 9 |'
expect "in the table" "$(grep -cF "$wanted" /run/lab/four.md) line" "1 line"
told=$(python natlab-report picture /run/lab/four 25 open symmetric |
  "$python" -SEc 'import sys, xml.etree.ElementTree as tree
for rect in tree.parse(sys.stdin).iter("{http://www.w3.org/2000/svg}rect"):
    print(rect.get("width") + rect.get("fill"))' | tr '\n' ' ')
expect "in the picture" "$told" "29#8fd19e 14.5#ffd27a 14.5#f0868a"

echo "What is let out:"
check_leaves port-restricted "udp:53,443,59000 tcp:443,59000"
check_leaves udp-443 "udp:53,443 tcp:443,59000"
check_leaves udp-blocked "udp:none tcp:443,59000"

echo "Ports that are asked for:"
if is_possible_type gateway; then
  lab gateway open 1 1
  for way in pcp nat-pmp upnp; do
    expect "gateway, by $way" "$(probe a mapped $way 192.168.1.1 "${servers[@]}")" \
      "granted at:${gateway4[a]} leads-in and-out"
  done
else
  left_out=yes
  tell_left_out gateway
fi
lab port-restricted open 1 1
expect "port-restricted, by pcp" "$(probe a mapped pcp 192.168.1.1 "${servers[@]}")" refused

echo "Mappings in silence:"
udp_timeout=3
lab short-timeouts open 1 1
expect "short-timeouts of 3 s, after 1 s" "$(probe a lives "${servers[0]}" 1)" alive
expect "short-timeouts of 3 s, after 5 s" "$(probe a lives "${servers[0]}" 5)" dead
lab port-restricted open 1 1
expect "port-restricted, after 5 s" "$(probe a lives "${servers[0]}" 5)" alive

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
  expect "full-cone, by way of $uplink" "$(probe a nat "${servers[@]}")" \
    "at:$uplink translated $independent port:kept $open unasked:ignored"
done

echo "A host that moves:"
check_router open "dead moves" move a
check_router firewall6 "dead moves" move a
check_router port-restricted "dead moves" move a

echo "The core and the routers of a site on the way to the server:"
for number in 1 2 3 4; do
  lab port-restricted open $number 1
  expect "$number hops" "$(probe a hops "${servers[0]}")" "routers:$((number + 1))"
done
lab double-nat open 1 1
expect "1 hop, double-nat" "$(probe a hops "${servers[0]}")" routers:3
need_tunnels
delay_start 10 0
expect "the same on slow links" "$(probe a hops "${servers[0]}")" routers:3


echo "Between the hosts of two sites, as many routers on slow links as on others:"
own=198.51.100.138
lab open open 1 1
serve b "$own"
expect "1 hop each" "$(probe a hops $own)" routers:3
delay_start 10 0
expect "the same on slow links" "$(probe a hops $own)" routers:3
own=2001:db8:b::10
lab firewall6 open 1 2
serve b "$own"
delay_start 10 0
expect "IPv6, 1 and 2 hops, slow links" "$(probe a hops $own)" routers:4

echo "Links of 25 ms, and with 20 % loss:"
own=198.51.100.138
lab port-restricted open 1 1
serve b "$own"
delay_start 25 0
trips=$(probe a trips "${servers[0]}" 40)
expect "25 ms, to the server" "$trips $(near "$trips" 50)" "near-50-ms lost:0.0"
trips=$(probe a trips "$own" 40)
expect "25 ms, to the other site" "$trips $(near "$trips" 50)" "near-50-ms lost:0.0"
delay=25
skew 100
trips=$(probe a trips "${servers[0]}" 20)
expect "the server late at B, seen by A" "$trips $(near "$trips" 50)" near-50-ms
trips=$(probe b trips "${servers[0]}" 20)
expect "and by B" "$trips $(near "$trips" 150)" near-150-ms
skew -100
trips=$(probe a trips "${servers[0]}" 20)
expect "late at A, seen by A" "$trips $(near "$trips" 150)" near-150-ms
trips=$(probe b trips "${servers[0]}" 20)
expect "and by B" "$trips $(near "$trips" 50)" near-50-ms
lab port-restricted open 1 1
delay_start 0 20
trips=$(probe a trips "${servers[0]}" 200)
# Both ways: 1 - 0.8 * 0.8. Five standard deviations are 17 of a hundred.
[[ $trips =~ lost:([0-9]+) ]] && ((BASH_REMATCH[1] > 19 && BASH_REMATCH[1] < 53)) &&
  trips+=" near-36-percent"
expect "20 % each way" "$trips" near-36-percent

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
