package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Policy says what a principal may do.
type Policy struct {
	Prefix      string              // directory below the root that is the principal's own; "": the root
	MaxTransfer int64               // most octets of one transfer; 0: no limit of its own
	Rate        int64               // octets per second over all its lanes; 0: no limit of its own
	Conflicts   []transfer.Conflict // what it may ask for when a name is taken
	ListOthers  bool                // sees and may cancel the transfers of other principals
	Admin       bool                // may use reflection, channelz and the other means of inspection
}

// DefaultPolicy is what each known principal gets when there is no policy file:
// the whole root, every conflict policy, no limits, and only its own transfers.
func DefaultPolicy() Policy {
	return Policy{Conflicts: []transfer.Conflict{transfer.Fail, transfer.Overwrite, transfer.Rename, transfer.SkipIdentical}}
}

// OpenPolicy is what every caller gets with --no-auth and no policy file: the
// default, and inspection too, since all callers are one and the same.
func OpenPolicy() Policy {
	p := DefaultPolicy()
	p.ListOthers, p.Admin = true, true
	return p
}

// CheckTransfer judges what an offer asks for: its conflict policy and its size
// in octets (negative or 0: not known yet, so the engine asks again as octets
// come). The error is Denied. It is not NoSpace, because that is retried, and
// no retry makes a transfer smaller.
func (p Policy) CheckTransfer(c transfer.Conflict, size int64) error {
	if !slices.Contains(p.Conflicts, c) {
		return transfer.Errorf(transfer.Denied, "check policy", "", "the conflict policy %s is not allowed for this principal", c).
			WithHint("ask for one of %v, or have %q added to the principal's \"conflict\" in the policy file", p.Conflicts, c)
	}
	if p.MaxTransfer > 0 && size > p.MaxTransfer {
		return transfer.Errorf(transfer.Denied, "check policy", "", "the transfer has %d octets and this principal may send %d at once", size, p.MaxTransfer).
			WithHint("send it in smaller transfers, or have max_transfer_bytes raised in the policy file")
	}
	return nil
}

// policyFile is the JSON of a policy file.
type policyFile struct {
	Principals map[string]policyEntry `json:"principals"`
}

type policyEntry struct {
	Prefix      string   `json:"prefix"`
	MaxTransfer int64    `json:"max_transfer_bytes"`
	Rate        int64    `json:"rate_bytes_per_second"`
	Conflict    []string `json:"conflict"`
	ListOthers  bool     `json:"list_others"`
	Admin       bool     `json:"admin"`
}

// Policies is a policy file, read again when it changes. It is safe for
// concurrent use.
type Policies struct {
	file *watched[map[Principal]Policy]
}

// LoadPolicies reads a policy file; doc.go describes it. Unknown fields,
// repeated keys and values outside their range are Invalid: a typing error in a
// policy must never widen it.
func LoadPolicies(path string, opts Options) (*Policies, error) {
	f, err := watch(opts, parsePolicies, path)
	if err != nil {
		return nil, err
	}
	return &Policies{file: f}, nil
}

// For returns the policy of p. Without an entry ok is false and p is denied.
func (s *Policies) For(p Principal) (policy Policy, ok bool) {
	policy, ok = s.file.get()[p]
	return policy, ok
}

// Stale returns why the file as it is now is not in force, or nil.
func (s *Policies) Stale() error { return s.file.stale() }

func parsePolicies(files [][]byte) (map[Principal]Policy, error) {
	fail := func(err error) error { return transfer.Errorf(transfer.Invalid, "read policies", "", "%w", err) }
	if err := uniqueKeys(json.NewDecoder(bytes.NewReader(files[0])), 0); err != nil {
		return nil, fail(err)
	}
	dec := json.NewDecoder(bytes.NewReader(files[0]))
	dec.DisallowUnknownFields()
	var f policyFile
	if err := dec.Decode(&f); err != nil {
		return nil, fail(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fail(errors.New("something follows the JSON object"))
	}
	if f.Principals == nil {
		return nil, fail(errors.New(`"principals" is missing; {"principals": {}} denies everyone`))
	}
	out := make(map[Principal]Policy, len(f.Principals))
	for name, e := range f.Principals {
		p, err := ParsePrincipal(name)
		if err != nil {
			return nil, fail(err) // without the name, which may be a token
		}
		if out[p], err = e.policy(); err != nil {
			return nil, fail(fmt.Errorf("principal %q: %w", name, err))
		}
	}
	return out, nil
}

func (e policyEntry) policy() (Policy, error) {
	p := Policy{Prefix: e.Prefix, MaxTransfer: e.MaxTransfer, Rate: e.Rate, ListOthers: e.ListOthers, Admin: e.Admin}
	if e.Prefix != "" {
		if _, err := transfer.ParsePath(e.Prefix, transfer.Posix); err != nil {
			return Policy{}, fmt.Errorf("prefix: %w", err)
		}
	}
	if e.MaxTransfer < 0 || e.Rate < 0 {
		return Policy{}, errors.New("max_transfer_bytes and rate_bytes_per_second may not be negative")
	}
	if e.Conflict == nil {
		p.Conflicts = []transfer.Conflict{transfer.Fail, transfer.Rename, transfer.SkipIdentical}
	}
	for _, name := range e.Conflict {
		c, err := transfer.ParseConflict(name)
		if err != nil {
			return Policy{}, err
		}
		p.Conflicts = append(p.Conflicts, c)
	}
	return p, nil
}

// maxDepth bounds the recursion of uniqueKeys; a policy file needs 4.
const maxDepth = 16

// uniqueKeys refuses a JSON value in which an object has a key twice, which
// encoding/json would read as the last one.
func uniqueKeys(dec *json.Decoder, depth int) error {
	if depth > maxDepth {
		return errors.New("the values are nested too deeply")
	}
	tok, err := dec.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("the file is empty")
		}
		return err
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	keys := make(map[string]struct{})
	for dec.More() {
		if delim == '{' {
			tok, err := dec.Token()
			if err != nil {
				return err
			}
			key, _ := tok.(string) // the decoder allows nothing else here
			if _, dup := keys[key]; dup {
				return fmt.Errorf("the key %q is there twice", key)
			}
			keys[key] = struct{}{}
		}
		if err := uniqueKeys(dec, depth+1); err != nil {
			return err
		}
	}
	_, err = dec.Token() // the closing delimiter
	return err
}
