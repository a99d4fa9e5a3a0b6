package transfer

import "time"

// Options hold for a whole transfer. They travel with part 0 of an offer and
// are fixed for the epoch.
type Options struct {
	Into        string        // directory below the receiver's root (or the principal's prefix); "" for the root
	Conflict    Conflict      // policy for names that are taken
	Names       Names         // rules for names
	Algorithm   Algorithm     // BLAKE3, XXH3 or None
	Lanes       int           // lanes that the sender would like; 0: the receiver chooses
	Label       string        // free text for lists and logs, at most 256 octets
	TotalFiles  int64         // entries in all, when known; 0: unknown
	TotalBytes  int64         // octets in all, when known; UnknownSize otherwise
	MaxBytes    int64         // the sender promises not to exceed this with unknown sizes; 0: no promise
	KeepPartial time.Duration // how long the sender would like partials kept; 0: the receiver's default; never above it
}

// OfferPart is one call of Negotiate: a part of the manifest.
type OfferPart struct {
	ID      ID
	Session Session
	Part    uint32  // from 0; a repeated part gets the same answer
	Last    bool    // no part follows
	Plan    bool    // judge only: leaves no state, answers without a token
	Options Options // in part 0
	Entries []Entry // indexes follow on from the part before
	// Brief lets the answer leave out files of at most MinChunkSize octets of which
	// nothing is held: each is one chunk, to be sent.
	Brief bool
}

// FileAnswer is the receiver's word on one file of a part.
type FileAnswer struct {
	Index     uint32
	ChunkSize int64 // fixed for the file from now on
	Held      Held  // chunks that need not be sent
	Skip      bool  // identical under SkipIdentical: nothing is to be sent
}

// Answer is what the receiver says to a part. A refusal is an *Error with
// Problems instead.
type Answer struct {
	Epoch       Epoch
	Token       Token         // equal in every answer of an epoch; zero for a plan
	TokenTTL    time.Duration // new lanes are accepted this long
	DataAddrs   []string      // host:port; an empty host means the host of the control plane
	MaxLanes    int           // lanes at once that are accepted
	DataTLS     bool          // lanes use TLS
	Principal   string        // who the receiver takes the caller for
	Files       []FileAnswer  // in order of index; files without chunks (directories, links, empty) may be missing, see also OfferPart.Brief
	FreeBytes   int64         // left for this principal after the reservation; for plans
	Durable     bool          // the store syncs before it says held
	Committed   *Receipt      // the transfer is committed already: nothing is to be sent
	Incarnation uint64        // random per start of the receiver
	Sums        bool          // CommitPart.Sums is understood
}

// FileDigest is the sender's digest of one file, computed from its own source.
type FileDigest struct {
	Index  uint32
	Size   int64 // final size; equals the entry's when that was known
	Digest Digest
}

// CommitPart is one call of Commit. Exactly one of the three uses applies:
// digests (Files, Part, Last), a query for chunk hashes (Query) or a request to
// forget chunks that differ (Repair).
type CommitPart struct {
	ID      ID
	Session Session

	Part  uint32 // from 0
	Last  bool   // no part follows: verify and publish
	Files []FileDigest
	// Sums are digests alone, one after another, at most MaxSums octets: of the
	// next files that have chunks, are of a known size and not skipped. Only where
	// Answer.Sums is set, and not together with Files.
	Sums []byte

	Query  *ChunkHashQuery
	Repair *Repair
}

// ChunkHashQuery asks for the receiver's hashes of a file's chunks.
type ChunkHashQuery struct {
	File  uint32
	First uint32
	Count uint32 // at most MaxChunkHashes
}

// MaxSums bounds CommitPart.Sums, octets.
const MaxSums = 1 << 20

// MaxChunkHashes bounds one page of chunk hashes: 16,384 × 32 octets is 512 KiB,
// half of what one message may carry.
const MaxChunkHashes = 16384

// ChunkHashes answers a query. Hashes are the algorithm's chunk hashes
// (package digest), one after another; a missing chunk is all zeros.
type ChunkHashes struct {
	File   uint32
	First  uint32
	Hashes []byte
}

// Repair asks the receiver to un-journal chunks durably, so that they can be
// sent again in the same epoch.
type Repair struct {
	File   uint32
	Chunks Held
}

// CommitResult answers a CommitPart: exactly one field is set, or none when a
// part was merely accepted or a repair is ready.
type CommitResult struct {
	Receipt  *Receipt
	Mismatch []uint32 // files whose digests differ; at most 1,000 are named at once
	Hashes   *ChunkHashes
	Round    int // repair round that Mismatch belongs to, from 1
}

// Outcome says what became of a file.
type Outcome uint8

// The outcomes.
const (
	Published  Outcome = 0 // under its own name
	Overwrote  Outcome = 1 // in the place of an older file
	Renamed    Outcome = 2 // under FileReceipt.Published
	Skipped    Outcome = 3 // identical file was there
	Conflicted Outcome = 4 // name taken: not published
	FailedFile Outcome = 5 // not published for another reason
	DirExisted Outcome = 6 // directory was there already
)

var outcomeNames = [...]string{"published", "overwrote", "renamed", "skipped", "exists", "failed", "merged"}

// String returns the stable name.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return "unknown"
}

// MarshalText writes the stable name.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads the stable name.
func (o *Outcome) UnmarshalText(b []byte) error {
	for i, n := range outcomeNames {
		if n == string(b) {
			*o = Outcome(i)
			return nil
		}
	}
	return Errorf(Invalid, "read outcome", "", "%q is not an outcome", b)
}

// FileReceipt is the receipt's line for one file.
type FileReceipt struct {
	Index     uint32  `json:"index"`
	Path      string  `json:"path"`                // as offered, below Into
	Published string  `json:"published,omitempty"` // final path below the receiver's root, if it differs from Into/Path
	Type      string  `json:"type"`
	Outcome   Outcome `json:"outcome"`
	Size      int64   `json:"size"`
	Digest    Digest  `json:"digest"`
	Reason    string  `json:"reason,omitempty"` // for exists and failed
}

// Receipt is what the receiver returns for a committed transfer. For trees the
// files are paged separately (Files holds them only up to InlineFiles).
type Receipt struct {
	ID        ID               `json:"id"`
	Principal string           `json:"principal,omitempty"`
	Into      string           `json:"into,omitempty"`
	Algorithm string           `json:"algorithm"`
	Verified  bool             `json:"verified"`   // false for digest none
	Durable   bool             `json:"durable"`    // synced to stable storage before it was published
	DataTLS   bool             `json:"data_tls"`   // lanes were encrypted
	FileCount int64            `json:"file_count"` // entries, directories included
	Bytes     int64            `json:"bytes"`
	Counts    map[string]int64 `json:"counts"` // entries per outcome name
	Started   time.Time        `json:"started"`
	Committed time.Time        `json:"committed"`
	Repairs   int64            `json:"repairs"` // chunks sent again after verification
	// FilesDigest is over all files, see the type FilesDigest; zero from receivers
	// that did not know it yet.
	FilesDigest Digest        `json:"files_digest,omitzero"`
	Files       []FileReceipt `json:"files,omitempty"`
	Envelope    []byte        `json:"envelope,omitempty"` // signed form, when the receiver signs
}

// InlineFiles is how many files a receipt carries itself.
const InlineFiles = 100

// Partial reports whether some files were not published.
func (r *Receipt) Partial() bool {
	return r.Counts[Conflicted.String()]+r.Counts[FailedFile.String()] > 0
}

// State is where a transfer stands at the receiver.
type State uint8

// The states; docs/protocol.md has the table of state × call.
const (
	StateUnknown    State = 0 // never heard of, or forgotten
	StateOffering   State = 1 // parts of the manifest are still arriving; bytes may flow
	StateOpen       State = 2 // manifest complete; bytes flow
	StateCommitting State = 3 // verifying and publishing
	StateCommitted  State = 4 // published; the receipt is kept
	StateAborted    State = 5 // given up; partials are gone
	StateFailed     State = 6 // cannot go on (poisoned storage, Corrupt); partials are gone
)

var stateNames = [...]string{"unknown", "offering", "open", "committing", "committed", "aborted", "failed"}

// String returns the stable name.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// MarshalText writes the stable name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the stable name; an unknown one is Invalid.
func (s *State) UnmarshalText(b []byte) error {
	for i, n := range stateNames {
		if n == string(b) {
			*s = State(i) //nolint:gosec // seven names
			return nil
		}
	}
	return Errorf(Invalid, "read state", "", "%q is not a state", b)
}

// Final reports whether nothing can change any more.
func (s State) Final() bool { return s >= StateCommitted }

// Info describes a transfer for lists, watches and logs.
type Info struct {
	ID         ID        `json:"id"`
	State      State     `json:"state"`
	Principal  string    `json:"principal,omitempty"`
	Label      string    `json:"label,omitempty"`
	Into       string    `json:"into,omitempty"`
	First      string    `json:"first"` // path of the first entry, to recognise it by
	Epoch      Epoch     `json:"epoch"`
	Lanes      int       `json:"lanes"` // open now
	Files      int64     `json:"files"`
	Bytes      int64     `json:"bytes"`       // declared; UnknownSize when not known
	BytesAcked int64     `json:"bytes_acked"` // written, perhaps not yet held
	BytesHeld  int64     `json:"bytes_held"`  // durable
	Created    time.Time `json:"created"`
	Updated    time.Time `json:"updated"`
	Kind       Kind      `json:"kind"` // why it failed
	Reason     string    `json:"reason,omitempty"`
	Receipt    *Receipt  `json:"receipt,omitempty"`
	Undeclared bool      `json:"length_undeclared,omitempty"` // plain protocol: FIN was the only end
}

// ListFilter chooses transfers for a page of a list.
type ListFilter struct {
	Principal string  // "" for all (admins)
	States    []State // empty: all
	PageSize  int     // 0: 100; at most 1,000
	PageToken string  // "" for the first page
}

// Page is one page of a list of transfers.
type Page struct {
	Transfers []Info
	Next      string // "" after the last page
}

// FilesPage is one page of a receipt's files.
type FilesPage struct {
	Files []FileReceipt
	Next  string
}
