// Package source is what a transfer sends: files, whole trees, or a stream of
// unknown length.
//
// [Scan] walks the given paths in the background. [Source.Entries] hands out the
// manifest while the walk goes on, so that bytes flow before it ends, and again
// from the beginning when a session has to be negotiated anew. Each lane reads
// through a [Reader] of its own; [Stream] stands for standard input.
//
//	src, err := source.Scan(ctx, source.Config{Roots: []string{"photos"}})
//	if err != nil { … }
//	defer src.Close()
//	entries, err := src.Entries(ctx, 0, 5000) // io.EOF after the last
//
// # Order
//
// Roots in order of their offered names; in each directory first everything that
// is not a directory, then the directories, both sorted by octets; a directory
// stands before its content. The order depends on names alone.
//
// # Names
//
// A root is offered under its last element ("photos" for /home/me/photos and
// for photos/), or under Config.As. A symbolic link given as a root is followed,
// since it was named on purpose; links below a root never are.
//
// # Patterns
//
// Exclude and Include hold patterns in the manner of gitignore: "*" and "?" stop
// at a slash, "**" does not, "[a-z]" and "{a,b}" are known. A pattern without a
// slash matches the last element at any depth; one with a slash inside or in
// front matches from the root down (without the root's own name); a slash at
// the end matches directories only. What an Exclude matches and no Include
// matches is left out, and an excluded directory is not entered. Roots
// themselves are never excluded.
//
// # Confinement and change
//
// Every directory is opened from its parent's descriptor without following
// links, every file without blocking (O_NOFOLLOW, O_NONBLOCK), so that a link or
// FIFO swapped in by somebody is not followed and does not hang. What was read
// must have the size, times, inode and device that the scan saw ([Stamp]), else
// the error is Changed and names the file. On systems other than Linux and macOS
// os.Root confines the same steps.
//
// # Problems
//
// Unreadable files and directories, refused names, devices, sockets, FIFOs, links
// that leave the tree and directories that contain themselves (bind mounts) are
// problems. The walk goes on to find all of them. Without KeepGoing it then
// fails, naming them ([Source.Problems] has up to MaxProblems, the text 20 and
// the count); with it they are left out and the rest is sent.
//
// # Limits
//
// About 70 octets of memory an entry, names included; 4 GiB of names; 2^32 − 1
// entries. A directory's names are in memory while it is listed. At most 16
// directories are held open by the walk and by each reader.
//
// # Why files stand before directories
//
// A directory is closed before its subdirectories are opened, so depth costs no
// descriptors, and the files of one directory are neighbours in the manifest:
// a lane opens the directory once and reads them relative to it.
//
// # Why the walk does not stop at the first problem
//
// A person who has to repair forty permissions wants to hear of forty.
package source
