package transfer

import (
	"io/fs"
	"time"
)

// Type tells what an entry of a manifest is. The zero value is a regular file.
type Type uint8

// The types of entries.
const (
	Regular   Type = 0
	Directory Type = 1
	Symlink   Type = 2
)

// String returns "file", "directory" or "link".
func (t Type) String() string {
	switch t {
	case Directory:
		return "directory"
	case Symlink:
		return "link"
	default:
		return "file"
	}
}

// Entry is one file, directory or link of a manifest.
type Entry struct {
	Index    uint32      // position in the manifest, from 0, dense
	Path     Path        // relative to the offer's Into, "/" separated
	Type     Type        // what it is
	Size     int64       // octets; UnknownSize for standard input; 0 for directories and links
	Mode     fs.FileMode // permission bits only (0o777); 0 means the receiver's default
	ModTime  time.Time   // zero: the receiver's time of publishing
	Link     string      // target of a Symlink
	Expected Digest      // what the maker of the file said; zero: nothing
}

// Chunks returns the number of chunks of the entry at the given chunk size.
func (e *Entry) Chunks(chunkSize int64) uint32 { return Chunks(e.Size, chunkSize) }

// Same reports whether two entries describe the same content at the same path:
// type, path, size, modification time and link target. Mode may differ.
func (e *Entry) Same(o *Entry) bool {
	return e.Path == o.Path && e.Type == o.Type && e.Size == o.Size && e.Link == o.Link && e.ModTime.Equal(o.ModTime)
}

// Conflict is the policy for a final name that is taken.
type Conflict uint8

// The policies. Fail is the zero value and the default.
const (
	Fail          Conflict = 0 // Exists
	Overwrite     Conflict = 1 // rename over a file; never replaces a directory
	Rename        Conflict = 2 // publish as "name (1)", "name (2)" …
	SkipIdentical Conflict = 3 // equal size and time: skipped, else Exists
)

var conflictNames = [...]string{"fail", "overwrite", "rename", "skip-identical"}

// String returns the name that flags use.
func (c Conflict) String() string {
	if int(c) < len(conflictNames) {
		return conflictNames[c]
	}
	return "unknown"
}

// ParseConflict reads the name that flags use.
func ParseConflict(s string) (Conflict, error) {
	for i, n := range conflictNames {
		if n == s {
			return Conflict(i), nil
		}
	}
	return Fail, Errorf(Invalid, "read conflict policy", "", "%q is none of fail, overwrite, rename, skip-identical", s)
}

// Names chooses the rules for names beyond the security rules.
type Names uint8

// The rules for names.
const (
	Posix    Names = 0 // whatever Linux allows, less what is never safe
	Portable Names = 1 // also what Windows and macOS can hold
)

// ParseNames reads "posix" or "portable".
func ParseNames(s string) (Names, error) {
	switch s {
	case "", "posix":
		return Posix, nil
	case "portable":
		return Portable, nil
	}
	return Posix, Errorf(Invalid, "read names rule", "", "%q is neither posix nor portable", s)
}

// String returns the name that flags use.
func (n Names) String() string {
	if n == Portable {
		return "portable"
	}
	return "posix"
}
