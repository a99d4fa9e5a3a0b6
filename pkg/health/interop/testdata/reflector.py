"""Scapy as STAMP Session-Reflector: prints its port, then answers for ever.

The mode says which reflector it plays: "rfc8972" understands padding and
clears its U flag; "rfc8762" knows no SSID, and copies TLVs as padding;
"short" answers 38 octets, without the TTL.
"""
import socket
import sys
import time

from scapy.contrib.stamp import (
    ErrorEstimate,
    STAMPSessionReflectorTestUnauthenticated as Reply,
    STAMPSessionSenderTestUnauthenticated as Request,
)
from scapy.layers.inet import UDP

mode = sys.argv[1]
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 0))
print(sock.getsockname()[1], flush=True)


def ntp(t):
    return (int(t) + 2_208_988_800) << 32 | int((t % 1) * 2**32)


while True:
    got, peer = sock.recvfrom(65535)
    received = time.time()
    request = Request(got, _parent=UDP(sport=40000, dport=862, len=8 + len(got)))
    tlvs = request.tlv_objects
    if mode == "rfc8972":
        for t in tlvs:
            if t.type == 1:
                t.flags = int(t.flags) & 0x7F
    reply = Reply(
        seq=request.seq, ssid=0 if mode == "rfc8762" else request.ssid,
        err_estimate=ErrorEstimate(S=1, Z=0, scale=10, multiplier=1),
        seq_sender=request.seq, err_estimate_sender=request.err_estimate,
        ttl_sender=255, tlv_objects=tlvs)
    reply.fields["ts_sender"] = request.fields["ts"]
    reply.fields["ts_rx"] = ntp(received)
    reply.fields["ts"] = ntp(time.time())
    out = bytes(reply)
    sock.sendto(out[:38] if mode == "short" else out, peer)
