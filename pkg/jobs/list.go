package jobs

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// list returns a page of the jobs that every part of the filter lets through,
// newest first. It reads the records of those alone: what the filter excludes
// is found by the indexes, so that a page of few matches among many jobs costs
// no more than one of many.
func (d *db) list(f Filter) (Page, error) {
	size := f.PageSize
	if size <= 0 {
		size = defaultPage
	}
	size = min(size, maxPage)
	after, err := base64.RawURLEncoding.DecodeString(f.PageToken)
	if err != nil || (f.PageToken != "" && len(after) != tailLen) {
		return Page{}, transfer.Errorf(transfer.Invalid, "list jobs", "", "the page token is not one of ours")
	}
	upper := bytes.Repeat([]byte{0xff}, tailLen)
	if !f.Before.IsZero() {
		upper = binary.BigEndian.AppendUint64(nil, uint64(f.Before.UnixNano())) //nolint:gosec // after 1970
	}
	if len(after) > 0 && bytes.Compare(after, upper) < 0 {
		upper = after
	}
	var page Page
	err = d.bolt.View(func(tx *bbolt.Tx) error {
		found := walksOf(tx, &f)
		for t := found.below(upper); t != nil; t = found.below(t) {
			if !f.After.IsZero() && int64(binary.BigEndian.Uint64(t)) < f.After.UnixNano() { //nolint:gosec // after 1970
				break
			}
			if len(page.Jobs) == size {
				page.Next = base64.RawURLEncoding.EncodeToString(tail(&page.Jobs[size-1]))
				break
			}
			if page.Jobs == nil {
				page.Jobs = make([]Job, 0, min(size, defaultPage))
			}
			page.Jobs = append(page.Jobs, Job{})
			if err := load(tx, t[8:], &page.Jobs[len(page.Jobs)-1]); err != nil {
				return err
			}
		}
		return nil
	})
	return page, err
}

// walk goes down a set of jobs by age. Elements are tails of index keys: time
// and id, which order the jobs in every index alike.
type walk interface {
	// below returns the greatest element that is less than limit, or nil. It is
	// good until the transaction ends.
	below(limit []byte) []byte
}

// walksOf is the set of the jobs that f lets through, whatever their age.
func walksOf(tx *bbolt.Tx, f *Filter) walk {
	var all both
	if f.Principal != "" {
		all = append(all, indexOf(tx, bucketPrincipal, append([]byte(f.Principal), 0)))
	}
	if f.Receiver != "" {
		all = append(all, indexOf(tx, bucketReceiver, append([]byte(f.Receiver), 0)))
	}
	if len(f.States) > 0 {
		var states either
		for _, s := range f.States {
			states = append(states, indexOf(tx, bucketState, []byte{byte(s)}))
		}
		all = append(all, states)
	}
	if len(all) == 0 {
		return indexOf(tx, bucketTime, nil)
	}
	return all
}

// index is the jobs of one index whose keys begin with prefix.
type index struct {
	cursor *bbolt.Cursor
	prefix []byte
	seek   []byte // reused
}

func indexOf(tx *bbolt.Tx, bucket, prefix []byte) *index {
	return &index{cursor: tx.Bucket(bucket).Cursor(), prefix: prefix}
}

func (x *index) below(limit []byte) []byte {
	x.seek = append(append(x.seek[:0], x.prefix...), limit...)
	k := seekBelow(x.cursor, x.seek)
	for k != nil && bytes.HasPrefix(k, x.prefix) && len(k) != len(x.prefix)+tailLen {
		k, _ = x.cursor.Prev() // of a longer name that holds a zero
	}
	if k == nil || !bytes.HasPrefix(k, x.prefix) {
		return nil
	}
	return k[len(x.prefix):]
}

// seekBelow places c on the last key below limit.
func seekBelow(c *bbolt.Cursor, limit []byte) []byte {
	k, _ := c.Seek(limit)
	if k == nil {
		k, _ = c.Last()
		if k == nil || bytes.Compare(k, limit) < 0 {
			return k
		}
	}
	k, _ = c.Prev()
	return k
}

// either is the union of sets.
type either []walk

func (e either) below(limit []byte) []byte {
	var best []byte
	for _, w := range e {
		if t := w.below(limit); t != nil && bytes.Compare(t, best) > 0 {
			best = t
		}
	}
	return best
}

// both is the intersection of sets, of at least one. Each set in turn is asked
// for its next element at or below the candidate, which skips what lies between:
// the cost is that of the set that alternates least.
type both []walk

func (b both) below(limit []byte) []byte {
	candidate := b[0].below(limit)
	for agreed := 1; candidate != nil && agreed < len(b); {
		atMost := append(slices.Clip(candidate), 0) // the least that is greater
		agreed = 0
		for _, w := range b {
			t := w.below(atMost)
			if !bytes.Equal(t, candidate) {
				candidate = t
				break
			}
			agreed++
		}
	}
	return candidate
}
