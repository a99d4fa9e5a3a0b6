// Package store keeps partial files, makes them durable and publishes them.
//
// Store and Stage are what the receiving engine (pkg/recv) uses; Disk is the
// implementation in a directory; storetest is the conformance suite of both.
//
//	d, err := store.Open(store.Config{Root: "inbox"})
//	st, err := d.Create(ctx, store.Spec{ID: id, Options: opts})
//	err = st.Begin(ctx, 1, opts)
//	states, err := st.Add(ctx, entries) // refusals, space, what is held
//	err = st.Seal(ctx)
//	err = st.WriteChunk(ctx, file, chunk, n, lane) // from any number of lanes
//	octets, err := st.Checkpoint(ctx)              // written becomes held
//	receipt, err := st.Publish(ctx, base, sign)
//
// A stage that is parked, or left by a crash, is opened again by Disk.Open and
// continues with the next epoch.
//
// # On disk
//
//	ROOT/.sluice/lock              flock while a store is open
//	ROOT/.sluice/<id>/journal      records with crc32c, see log.go; cut at the first bad one
//	ROOT/.sluice/<id>/tree/…       staged files under their real names, directories 0700
//	ROOT/.sluice/<id>/publish      exists from the moment that publishing cannot be undone
//	ROOT/.sluice/done/<time>.<id>/ receipt (JSON) and files (records) of a finished transfer
//
// # Promises
//
// Held chunks survive a kill and a power cut: data is synced before the journal
// says so, and the journal before Checkpoint returns. A failed sync is final for
// the stage: it must be opened again, and what is held is then hashed again, as
// it is after another boot. A final name has its old content or the whole new
// one at every moment. No symbolic link is followed and no other filesystem
// entered below the root, whatever other processes do there meanwhile.
//
// # Limits
//
// A manifest has at most 2^28 paths. A million entries take 106 MB of heap
// (measured, BenchmarkMillion). Modification times are kept in 64 bits of
// nanoseconds (1678 to 2262). MaxTotal counts unfinished transfers only. Linux is
// the platform: elsewhere a taken name is found by looking first.
//
// # Cancellation
//
// WriteChunk looks at its context between pieces of 256 KiB; a reader that blocks
// must be woken by its owner. Publish is not cut once it has begun: a crash or
// the caller's end changes nothing about what it does.
//
// # Why one journal for manifest and chunks
//
// One file is replayed in one order, so that "this entry changed, its chunks are
// gone" needs no sequence numbers between two files, and one fdatasync makes
// either durable. A path keeps its number (nodeID) over all epochs, therefore
// chunks are never journalled twice when a manifest comes in another order.
//
// # Why staged files have their real names
//
// A new tree is published by one rename of its root.
//
// # Why publishing can be repeated
//
// INTENT names the inode that is about to be renamed. Doing it all again after a
// crash renames what is still staged and recognises the rest by its inode, so
// recovery has no code of its own that only crashes would exercise.
//
// # Why a batch above eight files uses syncfs
//
// Single fsyncs of 100,000 files of 4 KiB took 144 s and more on ext4, one syncfs
// 5 s. It also flushes what others wrote, so few files are synced one by one.
package store
