# The networks of scripts/natlab, which sources this: namespaces, links, routers and their NATs.
#
#                        server  192.0.2.1 and .2, 2001:db8:5::1 and ::2
#                         |  |   one link for either site
#                         core
#               .----------'  '----------.
#            hop-a3 ..                hop-b3 ..       with more than one hop a side
#            outer-a                  outer-b         the carrier's NAT, of double-nat and cgn-random
#            nat-a                    nat-b
#            a   a2                   b   b2          two hosts behind each
#
# Both homes number their networks 192.168.1.0/24, as homes do. The core has no route to private
# addresses. A router calls the link towards the core `wan` and the one towards the hosts `lan`.

site_types=(open firewall4 firewall6 full-cone address-restricted port-restricted port-changing
  clash short-timeouts double-nat gateway address-dependent symmetric-sequential symmetric-block
  symmetric cgn-random dual-stack udp-443 udp-blocked)
# Where B may be besides: at A's site.
same_types=(same same-hairpin)

server4=(192.0.2.1 192.0.2.2)
server6=(2001:db8:5::1 2001:db8:5::2)

# What the Internet knows of a site: the address of its NAT, or the network of its hosts. `other4` is
# the NAT's at another uplink.
declare -A nat4
declare -A home4=([a]=203.0.113.1 [b]=203.0.113.2)
declare -A other4=([a]=203.0.113.17 [b]=203.0.113.18)
# No port of an address is given away that can only be a documentation's: the program of `gateway`
# knows them.
declare -A gateway4=([a]=223.255.255.1 [b]=223.255.255.2)
declare -A public4=([a]=198.51.100.0 [b]=198.51.100.128)
declare -A public6=([a]=2001:db8:a:: [b]=2001:db8:b::)

# The core's interface towards a site.
declare -A core_leg=()

in_ns() {
  local ns=$1
  shift
  nsenter --net="/run/netns/$ns" -- "$@"
}

add_ns() {
  ip netns add "$1"
  ip -n "$1" link set lo up
  in_ns "$1" sysctl -qw net.ipv4.conf.{all,default}.rp_filter=0 \
    net.ipv6.conf.{all,default}.accept_dad=0
}

add_router() {
  add_ns "$1"
  in_ns "$1" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
}

# Joins interface $2 of namespace $1 and interface $4 of $3; $5 are the first three bytes of its
# IPv4 network, when it matters. Leaves the addresses in near4, far4, near6 and far6.
link() {
  local net6
  links=$((${links:-0} + 1))
  net6=$(printf '2001:db8:ffff:%x::' "$links")
  near4=${5:-198.18.$links}.1 far4=${5:-198.18.$links}.2 near6=${net6}1 far6=${net6}2
  ip link add "$2" netns "$1" type veth peer name "$4" netns "$3"
  ip -n "$1" -batch - <<END
addr add $near4/30 dev $2
addr add $near6/64 dev $2 nodad
link set $2 up
END
  ip -n "$3" -batch - <<END
addr add $far4/30 dev $4
addr add $far6/64 dev $4 nodad
link set $4 up
END
}

# Waits until IPv6 goes over every link. The kernel looks once a second at links that came up, and
# before that an interface has no address to ask for its neighbours from.
await_links() {
  local ns left
  for ns in /run/netns/*; do
    for left in {250..0}; do
      ip -n "${ns##*/}" -o link | grep -v ' lo:' | grep -qv ' state UP ' || break
      [ "$left" != 0 ] || die "a link of the lab does not come up" "Report this."
      sleep 0.02
    done
  done
}

# Puts router $3 of site $1 behind router $2.
attach() {
  local site=$1 up=$2 down=$3 prefix
  add_router "$down"
  link "$up" "to-$down" "$down" wan
  ip -n "$down" route add default via "$near4"
  ip -n "$down" route add default via "$near6"
  [ "$up" != core ] || core_leg[$site]=to-$down
  for prefix in "${nat4[$site]}/32" "${other4[$site]}/32" "${public4[$site]}/25"; do
    ip -n "$up" route add "$prefix" via "$far4"
  done
  ip -n "$up" route add "${public6[$site]}/64" via "$far6"
}

# Builds the lab: type of site A, of site B or where at A it is, hops of either. What is left of an
# earlier one goes.
build() {
  local a=$1 b=$2 hairpin=no site
  tear_down
  for site in a b; do
    nat4[$site]=${home4[$site]}
    [ "${!site}" != gateway ] || nat4[$site]=${gateway4[$site]}
  done
  add_router core
  add_ns server
  for site in 0 1; do
    ip -n server addr add "${server4[site]}/32" dev lo
    ip -n server addr add "${server6[site]}/128" dev lo nodad
  done
  count_relayed
  # The site that a packet of the server goes to can be told by its link, which may be slow.
  for site in a b; do
    link core "to-server-$site" server "to-$site"
    case $site in
      a)
        # What the server sends unasked comes from where it is reached.
        ip -n server route add default via "$near4" src "${server4[0]}"
        ip -n server route add default via "$near6" src "${server6[0]}"
        ip -n core route add 192.0.2.0/24 via "$far4"
        ip -n core route add 2001:db8:5::/64 via "$far6"
        ;;
      b)
        ip -n server route add "${nat4[b]}/32" via "$near4"
        ip -n server route add "${other4[b]}/32" via "$near4"
        ip -n server route add "${public4[b]}/25" via "$near4"
        ip -n server route add "${public6[b]}/64" via "$near6"
        ;;
    esac
  done
  # The first is the one that connections of its own would come from.
  [ "$b" != same-hairpin ] || hairpin=yes
  build_site a "$a" "$3" "$hairpin"
  case $b in
    same | same-hairpin) ;;
    *) build_site b "$b" "$4" no ;;
  esac
}

tear_down() {
  local ns
  close_gateways
  for ns in /run/netns/*; do
    [ ! -e "$ns" ] || ip netns del "${ns##*/}"
  done
  links=0
}

# The routers that translate or filter, of site $1 or of both, a line each.
routers() {
  local ns
  for ns in {outer,nat}-{a,b}; do
    [ ! -e "/run/netns/$ns" ] || [[ $ns != *-${1:-*} ]] || echo "$ns"
  done
}

# The router of site $1 that is next to the core.
outermost() { routers "$1" | head -n 1; }

# The address that router $1 translates to.
outside_address() {
  case $1 in
    nat-*) [ ! -e "/run/netns/outer-${1#nat-}" ] || { echo 100.64.0.2 && return; } ;;
  esac
  echo "${nat4[${1##*-}]}"
}

build_site() {
  local site=$1 type=$2 hops=$3 hairpin=$4 up=core hop carrier=''
  for ((hop = hops; hop > 1; hop--)); do
    attach "$site" "$up" "hop-$site$hop"
    up=hop-$site$hop
  done
  case $type in
    # Carriers do not keep ports: many homes share one address.
    double-nat) carrier=port-changing ;;
    cgn-random) carrier=symmetric ;;
  esac
  if [ -n "$carrier" ]; then
    attach "$site" "$up" "outer-$site"
    ip -n "outer-$site" addr add "${nat4[$site]}/32" dev wan
    add_router "nat-$site"
    link "outer-$site" lan "nat-$site" wan 100.64.0
    ip -n "nat-$site" route add default via "$near4"
    load_rules "outer-$site" $carrier "${nat4[$site]}" no
    load_rules "nat-$site" port-restricted "$far4" "$hairpin"
  else
    attach "$site" "$up" "nat-$site"
    ip -n "nat-$site" addr add "${nat4[$site]}/32" dev wan
    load_rules "nat-$site" "$type" "${nat4[$site]}" "$hairpin"
  fi
  if [ "$type" = short-timeouts ]; then
    # The second is for flows that were answered.
    in_ns "nat-$site" sysctl -qw net.netfilter.nf_conntrack_udp_timeout="$udp_timeout" \
      net.netfilter.nf_conntrack_udp_timeout_stream="$udp_timeout"
  fi
  build_lan "$site" "$type"
  [ "$type" != gateway ] || open_gateway "$site"
}

build_lan() {
  local site=$1 type=$2 net4='' net6='' host number
  case $type in
    open) net4=${public4[$site]} net6=${public6[$site]} ;;
    firewall4) net4=${public4[$site]} ;;
    firewall6) net6=${public6[$site]} ;;
    dual-stack) net4=192.168.1.0 net6=${public6[$site]} ;;
    *) net4=192.168.1.0 ;;
  esac
  ip -n "nat-$site" link add lan type bridge
  ip -n "nat-$site" link set lan up
  lan_address "nat-$site" lan 1
  for number in 10 11; do
    host=$site
    [ $number = 10 ] || host=${site}2
    add_ns "$host"
    ip link add "to-$host" netns "nat-$site" type veth peer name eth0 netns "$host"
    ip -n "nat-$site" link set "to-$host" master lan up
    ip -n "$host" link set eth0 up
    lan_address "$host" eth0 $number
    [ -z "$net4" ] || ip -n "$host" route add default via "${net4%.*}.$((${net4##*.} + 1))"
    [ -z "$net6" ] || ip -n "$host" route add default via "${net6}1"
  done
}

# Gives interface $2 of $1 the address of this number in the networks of build_lan.
lan_address() {
  [ -z "$net4" ] ||
    ip -n "$1" addr add "${net4%.*}.$((${net4##*.} + $3))/25" dev "$2"
  [ -z "$net6" ] || ip -n "$1" addr add "$net6$3/64" dev "$2" nodad
}

# Makes everything that enters the core late by $1 ms, and loses $2 % of it. Whatever comes in on a
# link is routed into a tunnel device first, where natlab-delay holds it back.
delay_start() {
  local delay=$1 loss=$2 device table=100 slow=() wait
  for device in $(legs); do
    table=$((table + 1))
    ip -n core tuntap add dev "slow$table" mode tun
    ip -n core link set "slow$table" up txqueuelen 10000
    ip -n core route add default dev "slow$table" table $table
    ip -n core -6 route add default dev "slow$table" table $table
    ip -n core rule add iif "$device" lookup $table
    ip -n core -6 rule add iif "$device" lookup $table
    slow+=("slow$table=$delay")
    [ "$device" != to-server-b ] || slow_towards_b=slow$table
    [ "$device" != to-server-a ] || slow_towards_a=slow$table
  done
  rm -f /run/delay /run/delay.ready
  mkfifo /run/delay
  (exec nsenter --net=/run/netns/core -- "$lib/natlab-delay" "$loss" "${slow[@]}") \
    </run/delay >/run/delay.ready &
  delay_pid=$!
  exec {delay_fd}>/run/delay
  for wait in {1..100}; do
    [ ! -s /run/delay.ready ] || return 0
    sleep 0.05
  done
  die "the links cannot be made slow" "See the message above."
}

# The interfaces of the core.
legs() {
  ip -n core -o link show type veth | sed 's/^[0-9]*: \([^@:]*\).*/\1/'
}

# Makes what the server says to one site later than to the other, by $1 ms: to B, or to A when it is
# negative.
skew() {
  echo "$slow_towards_a $((delay + ($1 < 0 ? -$1 : 0)))" >&"$delay_fd"
  echo "$slow_towards_b $((delay + ($1 > 0 ? $1 : 0)))" >&"$delay_fd"
}

# Lets no more than $2 Mbit/s into site $1, with a queue of 100 ms.
slow_down() {
  in_ns core tc qdisc add dev "${core_leg[$1]}" root tbf rate "$2mbit" burst 64kb latency 100ms
}

delay_stop() {
  [ -n "${delay_pid-}" ] || return 0
  exec {delay_fd}>&-
  kill "$delay_pid" 2>/dev/null || true
  wait "$delay_pid" 2>/dev/null || true
  delay_pid=
}
