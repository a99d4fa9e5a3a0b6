// Package wire is the bytes of a lane: the hello that opens it, the header of a
// frame and the acknowledgement that comes back. It is a codec only and knows
// no sockets. All integers are big-endian (network order, RFC 1700).
//
// # Hello, sender to receiver, 80 octets, once
//
//	octets   field        content
//	0-3      magic        53 4c 55 43 ("SLUC")
//	4        version      1
//	5-7      reserved     zero
//	8-23     transfer     the transfer's id, UUIDv7
//	24-31    epoch        as the answer said, never 0
//	32-47    nonce        random, fresh for each lane; serves once
//	48-79    mac          HMAC-SHA-256 (RFC 2104) keyed by the lane token over octets 0-47
//
// # Frame header, sender to receiver, 24 octets, followed by length octets
//
//	octets   field        content
//	0        type         1 (data)
//	1-3      reserved     zero
//	4-7      file         index in the manifest
//	8-15     offset       first octet of the file in this frame; a multiple of the chunk size
//	16-23    length       octets that follow, never 0; whole chunks, or up to the end of the file
//
// # Acknowledgement, receiver to sender, 16 octets
//
//	octets   field        content
//	0        type         1 hello accepted, 2 chunks written, 3 chunk refused, 4 lane ends
//	1        kind         why, for types 3 and 4 (transfer.Kind); else 0
//	2-3      reserved     zero
//	4-7      file         index in the manifest; 0 for types 1 and 4
//	8-11     chunk        first chunk; 0 for types 1 and 4
//	12-15    count        chunks from the first on; 0 for types 1 and 4
//
// Type 2 says that the chunks are hashed and written, not yet that they are
// durable ("held"). Type 3 gives one chunk back to the sender: the lane goes on.
// Type 4 is the last record of a lane; the receiver closes after it.
//
// # Why fixed lengths
//
// A reader in any language needs three struct formats and no parser, and no
// length field of the peer's ever sizes an allocation.
//
// # Why no checksum in the headers
//
// A flipped bit in a header sends octets to another place or cuts the lane; the
// chunk hashes of the verify step find both, and the repair costs one chunk.
package wire
