"""Asks a router for a port that leads in, the ways there are: each returns the address and port that
lead to `port` of this host, or nothing."""

import os
import re
import socket
import struct
import urllib.parse
import urllib.request

LIFETIME_S = 600

# Of routers that answer, and of those that do not.
PATIENCE = 2.0

UDP = 17

PORT = 5351


def pcp(router, port):
    """RFC 6887 sections 7 and 11.1."""
    own = own_address(router)
    nonce = os.urandom(12)
    ask = struct.pack(">BBHI16s", 2, 1, 0, LIFETIME_S, mapped(own))
    ask += struct.pack(">12sB3xHH16s", nonce, UDP, port, port, mapped("0.0.0.0"))
    answer = exchange(router, ask)
    if len(answer) < 60 or answer[:4] != b"\x02\x81\x00\x00" or answer[24:36] != nonce:
        return None
    outside, address = struct.unpack_from(">H16s", answer, 42)
    return socket.inet_ntoa(address[12:]), outside


def nat_pmp(router, port):
    """RFC 6886 sections 3.2 and 3.3."""
    about = exchange(router, b"\0\0")
    answer = exchange(router, struct.pack(">BBHHHI", 0, 1, 0, port, port, LIFETIME_S))
    if about[:4] != b"\0\x80\0\0" or answer[:4] != b"\0\x81\0\0":
        return None
    return socket.inet_ntoa(about[8:12]), struct.unpack_from(">H", answer, 10)[0]


def upnp(router, port):
    """WANIPConnection 1, sections 2.4.16 and 2.4.18, where SSDP says."""
    place = search(router)
    with urllib.request.urlopen(place, timeout=PATIENCE) as answer:
        device = answer.read().decode()
    service = re.search(r"<serviceType>([^<]*:WAN(?:IP|PPP)Connection:\d)<.*?<controlURL>([^<]*)<", device, re.S)
    kind, control = service[1], urllib.parse.urljoin(place, service[2])
    values = {
        "NewRemoteHost": "",
        "NewExternalPort": port,
        "NewProtocol": "UDP",
        "NewInternalPort": port,
        "NewInternalClient": own_address(router),
        "NewEnabled": 1,
        "NewPortMappingDescription": "natlab",
        "NewLeaseDuration": LIFETIME_S,
    }
    call(control, kind, "AddPortMapping", values)
    address = re.search(r"<NewExternalIPAddress>([^<]*)<", call(control, kind, "GetExternalIPAddress", {}))
    return address[1], port


WAYS = {"pcp": pcp, "nat-pmp": nat_pmp, "upnp": upnp}


def own_address(router):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((router, PORT))
        return sock.getsockname()[0]


def mapped(address):
    """An IPv4 address as an IPv6 one."""
    return b"\0" * 10 + b"\xff\xff" + socket.inet_aton(address)


def exchange(router, ask):
    """The answer of whoever opens ports, empty when there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.connect((router, PORT))
        try:
            sock.send(ask)
            return sock.recv(2048)
        except OSError:
            return b""


def search(router):
    """Where this router describes itself."""
    question = (
        "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n"
        "ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.sendto(question.encode(), ("239.255.255.250", 1900))
        while True:
            answer, sender = sock.recvfrom(2048)
            place = re.search(rb"(?i)^location:\s*(\S+)", answer, re.M)
            if sender[0] == router and place:
                return place[1].decode()


def call(control, kind, action, values):
    """What a service answers."""
    body = "".join(f"<{name}>{value}</{name}>" for name, value in values.items())
    envelope = (
        '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f'<u:{action} xmlns:u="{kind}">{body}</u:{action}></s:Body></s:Envelope>'
    )
    headers = {"Content-Type": 'text/xml; charset="utf-8"', "SOAPAction": f'"{kind}#{action}"'}
    request = urllib.request.Request(control, envelope.encode(), headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return answer.read().decode()
