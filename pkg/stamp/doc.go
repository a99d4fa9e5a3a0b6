// Package stamp is the packets of STAMP, the Simple Two-way Active Measurement
// Protocol (RFC 8762), with its extensions (RFC 8972). It is a codec only: no
// sockets, no clocks, no allocation. All integers are big-endian.
//
// # Unauthenticated packets, 44 octets
//
//	octets   sender ([Sender])        reflected ([Reflected])
//	0-3      sequence                 sequence
//	4-11     timestamp T1             timestamp T3
//	12-13    error estimate           error estimate
//	14-15    SSID                     SSID
//	16-23    zero                     receive timestamp T2
//	24-27    zero                     sender's sequence
//	28-35    zero                     sender's timestamp T1
//	36-37    zero                     sender's error estimate
//	38-39    zero                     zero
//	40       zero                     sender's TTL as it arrived, 255 when unknown
//	41-43    zero                     zero
//	44-      TLVs                     TLVs
//
// # Authenticated packets, 112 octets
//
//	octets   sender                   reflected
//	0-3      sequence                 sequence
//	4-15     zero                     zero
//	16-23    timestamp T1             timestamp T3
//	24-25    error estimate           error estimate
//	26-27    SSID                     SSID
//	28-31    zero                     zero
//	32-39    zero                     receive timestamp T2
//	40-47    zero                     zero
//	48-51    zero                     sender's sequence
//	52-63    zero                     zero
//	64-71    zero                     sender's timestamp T1
//	72-73    zero                     sender's error estimate
//	74-79    zero                     zero
//	80       zero                     sender's TTL as it arrived, 255 when unknown
//	81-95    zero                     zero
//	96-111   HMAC                     HMAC
//	112-     TLVs                     TLVs
//
// The HMAC is HMAC-SHA-256 truncated to 16 octets over octets 0-95 (RFC 8762
// section 4.4).
//
// # Timestamps and error estimates
//
//	octets   field of a timestamp     content
//	0-3      seconds                  since 1900-01-01 00:00 UTC, modulo 2^32
//	4-7      fraction                 in 2^-32 seconds
//
//	bits     field of an estimate     content
//	15       S                        1: the clock is synchronised to UTC
//	14       Z                        0: NTP timestamps as above; 1: PTPv2 truncated (RFC 8186)
//	13-8     scale
//	7-0      multiplier               never 0; the error is multiplier * 2^scale * 2^-32 seconds
//
// # TLVs (RFC 8972 section 4)
//
//	octets   field        content
//	0        flags        80 U unrecognised, 40 M malformed, 20 I integrity failed
//	1        type         1 extra padding, 8 HMAC, 251 status; others are copied
//	2-3      length       of the value alone
//	4-       value
//
// A sender sets U in every TLV. A reflector clears it in those that it
// understood and copies the others as they came. The first TLV that runs past
// the end gets M, and it and all after it are copied. The HMAC TLV follows all
// TLVs but extra padding; it covers the sequence and the TLVs before it. When
// it does not match, is missing or stands elsewhere, all TLVs are copied back
// with I set. Octets after the base whose first lacks U are the padding of an
// RFC 8762 or TWAMP-Light sender and are copied.
//
// # Status TLV, type 251 (experimental, RFC 8972 section 5.1), 32 octets
//
//	octets   field        content
//	0-3      magic        53 4c 53 54 ("SLST"); zero in a request
//	4        version      1
//	5        serving      grpc.health.v1: 0 unknown, 1 serving, 2 not serving, 3 service unknown
//	6        flags        1 draining, 2 read-only, 4 disk low
//	7        load         percent of what the receiver takes on; above 100 it is overloaded
//	8-15     incarnation  random, fresh at each start of the process
//	16-17    active       transfers that are open
//	18-19    free slots   transfers that would still be accepted
//	20-23    free         MiB free for transfers
//	24-27    idle         ms since data last moved
//	28-31    reserved     zero
//
// All octets after the magic are zero in a request, which is as long as its
// reply for that reason.
//
// # How to use it
//
// A sender appends [Sender.Append] and [AppendTLV] to a buffer; a reflector
// changes the received buffer in place with [Reflected.Put] and [ReflectTLVs],
// so a reply is as long as its request by construction. In authenticated mode a
// [MAC] seals both.
//
// # Why
//
// Why are replies built in place? Because nothing can then be amplified, and
// nothing is copied or allocated for a packet of a stranger.
//
// Why does the status answer only requests whose value is zero? Type 251 is
// experimental, so another vendor's packets may carry it with another meaning.
// Theirs are copied as unrecognised.
package stamp
