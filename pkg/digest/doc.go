// Package digest hashes files chunk by chunk, so that any lane can hash any
// chunk, and joins the hashes of the chunks into the digest of the file.
//
//	n := transfer.Chunks(size, chunkSize)
//	for i := range n { // in any order, on any goroutine
//		hashes[i] = digest.SumChunk(nil, transfer.BLAKE3, i, chunkSize, n == 1, chunk(i))
//	}
//	d := digest.Root(transfer.BLAKE3, size, chunkSize, slices.Concat(hashes...))
//
// ChunkHasher does the same for a chunk that arrives in pieces. Nothing here
// blocks, starts a goroutine or allocates in steady state.
//
// # Algorithms
//
//	blake3   hash of a chunk: its chaining value in the BLAKE3 tree, 32 octets.
//	         The file's digest is the root of that tree: what b3sum prints.
//	xxh3     hash of a chunk: XXH3-128 in its canonical form, 16 octets. The
//	         file's digest is XXH3-128 over the hashes of the chunks, in order.
//	none     no hash.
//
// In both algorithms a file of one chunk has the hash of that chunk as its
// digest (for BLAKE3 the hash is then made with the root flag, which is what the
// argument only is for) and an empty file the digest of no octets:
// blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262,
// xxh3:99aa06d3014798d86001c324468d497f.
//
// # Unknown sizes
//
// Whoever hashes chunk 0 of a file of unknown size cannot know whether it is the
// only one: it is hashed as one of several. If nothing follows, SumOnly gives
// the digest from the same state, and whoever no longer has the state hashes the
// chunk again with only set.
//
// # Limits
//
// XXH3 finds accidents, not malice. A chunk size must be a power of two of at
// least 16 KiB (transfer.ValidChunkSize asks for more), else BLAKE3 chunks would
// not be whole subtrees.
//
// # Why lukechampine.com/blake3/guts, and zeebo/blake3 beside it
//
// Only guts gives chaining values of subtrees, which parallel lanes need. A file
// of one chunk needs none, and zeebo/blake3 hashes it whole. Microseconds on one
// core, data hot in cache, with and without AVX-512:
//
//	           AVX-512        AVX2 alone
//	octets     guts   zeebo   guts  zeebo
//	100        0.41   0.27    0.45  0.11
//	1,024      1.9    2.5     2.7   1.3
//	4,096      3.7–4.0 3.3–3.8 3.6  2.7
//	8,192      4.4    3.9
//	16,384     3.9    6.6     7.9   7.2
//	65,536     17.5   23.3    46    20
//	1,048,576  301    360     564   381
//
// So zeebo serves whole files where there is AVX2 and no AVX-512, and those of up to
// 8 KiB, which leave half of the vectors empty, everywhere. Per chunk of 1 MiB
// fed in pieces of 256 KiB, with AVX-512: BLAKE3 3.0 GB/s, XXH3 36 GB/s. Joining
// 2,048 chunks (2 GiB) costs 0.24 ms.
//
// # Why the caller feeds pieces
//
// Hashing while a piece is still in the second-level cache is what makes it run
// at these rates: read 256 KiB, hash, write, and never a second pass.
package digest
