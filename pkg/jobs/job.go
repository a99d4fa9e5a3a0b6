package jobs

import (
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// State is where a job stands. The numbers are stored; they are only added to.
type State uint8

// The states.
const (
	Queued    State = 1 // waits for a free place
	Running   State = 2 // is being sent
	Waiting   State = 3 // failed in a way that can heal; NextAt says when it is tried again
	Succeeded State = 4 // the receipt is there
	Partial   State = 5 // the receipt is there, and some files were not published
	Failed    State = 6 // Kind and Reason say why
	Canceled  State = 7 // somebody called Cancel
)

var stateNames = [...]string{"", "queued", "running", "waiting", "succeeded", "partial", "failed", "canceled"}

// String returns the stable name.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// MarshalText writes the stable name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the stable name.
func (s *State) UnmarshalText(b []byte) error {
	v, err := ParseState(string(b))
	if err == nil {
		*s = v
	}
	return err
}

// ParseState reads the stable name.
func ParseState(name string) (State, error) {
	for i, n := range stateNames {
		if i > 0 && n == name {
			return State(i), nil
		}
	}
	return 0, transfer.Errorf(transfer.Invalid, "read job state", "", "%q is none of queued, running, waiting, succeeded, partial, failed, canceled", name)
}

// Final reports whether the job has ended.
func (s State) Final() bool { return s >= Succeeded }

// Source is one file or directory of a job.
type Source struct {
	Path     string          `json:"path"`              // absolute, below a source root
	As       string          `json:"as,omitempty"`      // name at the receiver; "" keeps the base name
	Expected transfer.Digest `json:"expected,omitzero"` // what the file's maker said (files only)
}

// Spec is what a caller asks for; it does not change but for Limit and Priority.
type Spec struct {
	RequestID  string             `json:"request_id,omitempty"` // same id, same caller: same job
	Principal  string             `json:"principal,omitempty"`  // who submitted it
	Sources    []Source           `json:"sources"`
	Receiver   string             `json:"receiver"` // a configured name or group
	Into       string             `json:"into,omitempty"`
	Conflict   transfer.Conflict  `json:"conflict,omitempty"`
	Names      transfer.Names     `json:"names,omitempty"`
	Algorithm  transfer.Algorithm `json:"algorithm,omitempty"` // zero: BLAKE3
	Lanes      int                `json:"lanes,omitempty"`     // 0: chosen
	Label      string             `json:"label,omitempty"`
	Exclude    []string           `json:"exclude,omitempty"`
	Include    []string           `json:"include,omitempty"`
	Preserve   bool               `json:"preserve_links,omitempty"`
	SkipSpec   bool               `json:"skip_special,omitempty"`
	KeepGoing  bool               `json:"keep_going,omitempty"`
	Limit      int64              `json:"limit,omitempty"`    // octets per second; 0: none
	Priority   int32              `json:"priority,omitempty"` // higher first; 0 is normal
	Deadline   time.Time          `json:"deadline,omitzero"`  // zero: none
	MaxRetries int                `json:"max_retries,omitempty"`
	Trace      map[string]string  `json:"trace,omitempty"` // W3C trace context of the submitter
}

// Progress is what is known of a running job.
type Progress struct {
	Bytes int64     `json:"bytes,omitempty"` // declared; transfer.UnknownSize if not known
	Acked int64     `json:"bytes_acked,omitempty"`
	Files int64     `json:"files,omitempty"`
	Lanes int       `json:"lanes,omitempty"`
	Rate  int64     `json:"rate,omitempty"` // octets per second over the last seconds
	To    string    `json:"to,omitempty"`   // the receiver that was chosen
	Note  string    `json:"note,omitempty"` // "receiver frozen", "UDP blocked" …
	At    time.Time `json:"at,omitzero"`
}

// ETA estimates the time left from the rate, 0 when it cannot be told.
func (p Progress) ETA() time.Duration {
	if p.Rate <= 0 || p.Bytes <= p.Acked {
		return 0
	}
	return time.Duration(float64(p.Bytes-p.Acked) / float64(p.Rate) * float64(time.Second))
}

// Job is one durable record.
type Job struct {
	ID       transfer.ID   `json:"id"` // also the transfer's id
	Spec     Spec          `json:"spec"`
	State    State         `json:"state"`
	Attempts int           `json:"attempts"` // runs begun
	Failures int           `json:"failures"` // runs that failed in a way that can heal, since the last success or Retry
	NextAt   time.Time     `json:"next_at,omitzero"`
	Created  time.Time     `json:"created"`
	Updated  time.Time     `json:"updated"`
	Finished time.Time     `json:"finished,omitzero"`
	Kind     transfer.Kind `json:"kind"`
	Reason   string        `json:"reason,omitempty"`
	Hint     string        `json:"hint,omitempty"`
	Progress Progress      `json:"progress,omitzero"`
	// Committing is the receiver of a group that was asked, or was about to be
	// asked, to commit: only it can tell whether the job is published, see
	// Live.Committing. It stays after the end. "": none was.
	Committing string            `json:"committing,omitempty"`
	Receipt    *transfer.Receipt `json:"receipt,omitempty"`
}

// Filter chooses jobs for a page of a list.
type Filter struct {
	Principal string // "" for all
	States    []State
	Receiver  string
	After     time.Time // created at or after; zero: any
	Before    time.Time // created before; zero: any
	PageSize  int       // 0: 100; at most 1,000
	PageToken string
}

// Page is one page, newest first.
type Page struct {
	Jobs []Job
	Next string
}
