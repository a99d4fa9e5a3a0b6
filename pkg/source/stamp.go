package source

import (
	"fmt"
	"time"
)

// Stamp is what tells one state of a file from another. Times are nanoseconds
// since 1970; where a system has no inode or change time they are 0.
type Stamp struct {
	Size   int64
	MTime  int64
	CTime  int64
	Inode  uint64
	Device uint64
}

// Changed says in words how now differs from s, "" when it does not.
func (s Stamp) Changed(now Stamp) string {
	switch {
	case s.Inode != now.Inode || s.Device != now.Device:
		return "it was replaced by another file"
	case now.Size < s.Size:
		return fmt.Sprintf("it shrank from %d to %d bytes", s.Size, now.Size)
	case now.Size > s.Size:
		return fmt.Sprintf("it grew from %d to %d bytes", s.Size, now.Size)
	case s.MTime != now.MTime:
		return "its modification time moved"
	case s.CTime != now.CTime:
		return "its content or its attributes were touched"
	}
	return ""
}

func (s Stamp) modTime() time.Time { return time.Unix(0, s.MTime) }

// kind is what a directory entry is.
type kind uint8

const (
	kindFile kind = iota
	kindDir
	kindLink
	kindFIFO
	kindSocket
	kindDevice
)

func (k kind) special() string {
	switch k {
	case kindFIFO:
		return "a FIFO"
	case kindSocket:
		return "a socket"
	case kindDevice:
		return "a device"
	default:
		return ""
	}
}

// info is what a stat tells.
type info struct {
	Stamp
	kind kind
	perm uint16 // 0o777 only
}
