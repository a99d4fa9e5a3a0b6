package jobs

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Buckets of the file. Index keys end in time (8 octets, big-endian
// nanoseconds) and id (16), so that a cursor walks them by age.
var (
	bucketJobs     = []byte("jobs")     // id → JSON
	bucketTime     = []byte("time")     // time, id
	bucketState    = []byte("state")    // state, time, id
	bucketReceiver = []byte("receiver") // name, 0, time, id
	bucketRequest  = []byte("request")  // principal, 0, request id → id
	bucketMeta     = []byte("meta")     // "format" → 1
)

const (
	formatVersion = 1
	defaultPage   = 100
	maxPage       = 1000
	tailLen       = 8 + 16
)

type db struct {
	bolt *bbolt.DB
	*batcher
}

func openDB(path string) (*db, error) {
	b, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 2 * time.Second, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, transfer.Errorf(transfer.Busy, "open job file", path, "another sender uses it").WithHint("stop the other sender, or give this one its own --state directory")
	}
	if err != nil {
		return nil, fmt.Errorf("open job file: %w", err)
	}
	err = b.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketJobs, bucketTime, bucketState, bucketReceiver, bucketRequest, bucketMeta} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		meta := tx.Bucket(bucketMeta)
		if v := meta.Get([]byte("format")); len(v) == 1 && v[0] > formatVersion {
			return transfer.Errorf(transfer.Invalid, "open job file", path, "format %d is newer than this program", v[0]).WithHint("run the newer version that wrote it")
		}
		return meta.Put([]byte("format"), []byte{formatVersion})
	})
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return &db{bolt: b, batcher: &batcher{bolt: b}}, nil
}

func tail(j *Job) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, tailLen), uint64(j.Created.UnixNano())) //nolint:gosec // after 1970
	return append(b, j.ID[:]...)
}

func indexKeys(j *Job) map[string][]byte {
	t := tail(j)
	return map[string][]byte{
		string(bucketTime):     t,
		string(bucketState):    append([]byte{byte(j.State)}, t...),
		string(bucketReceiver): append(append([]byte(j.Spec.Receiver), 0), t...),
	}
}

func requestKey(s *Spec) []byte { return []byte(s.Principal + "\x00" + s.RequestID) }

// put writes a job and moves its indexes; old is the record before, or nil.
func put(tx *bbolt.Tx, old, j *Job) error {
	text, err := json.Marshal(j)
	if err != nil {
		return err
	}
	keys := indexKeys(j)
	if old != nil {
		for name, k := range indexKeys(old) {
			if !bytes.Equal(k, keys[name]) {
				if err := tx.Bucket([]byte(name)).Delete(k); err != nil {
					return err
				}
			}
		}
	}
	for name, k := range keys {
		if err := tx.Bucket([]byte(name)).Put(k, nil); err != nil {
			return err
		}
	}
	if j.Spec.RequestID != "" {
		if err := tx.Bucket(bucketRequest).Put(requestKey(&j.Spec), j.ID[:]); err != nil {
			return err
		}
	}
	return tx.Bucket(bucketJobs).Put(j.ID[:], text)
}

func remove(tx *bbolt.Tx, j *Job) error {
	for name, k := range indexKeys(j) {
		if err := tx.Bucket([]byte(name)).Delete(k); err != nil {
			return err
		}
	}
	if j.Spec.RequestID != "" {
		if err := tx.Bucket(bucketRequest).Delete(requestKey(&j.Spec)); err != nil {
			return err
		}
	}
	return tx.Bucket(bucketJobs).Delete(j.ID[:])
}

func get(tx *bbolt.Tx, id []byte) (*Job, error) {
	text := tx.Bucket(bucketJobs).Get(id)
	if text == nil {
		return nil, transfer.Errorf(transfer.NotFound, "find job", "", "no such job")
	}
	var j Job
	if err := json.Unmarshal(text, &j); err != nil {
		return nil, fmt.Errorf("read job record: %w", err)
	}
	return &j, nil
}

func (d *db) get(id transfer.ID) (*Job, error) {
	var j *Job
	err := d.bolt.View(func(tx *bbolt.Tx) (err error) {
		j, err = get(tx, id[:])
		return err
	})
	return j, err
}

// change applies f to the stored job in one durable transaction that may be
// shared with others', and returns the result.
func (d *db) change(id transfer.ID, f func(*Job) error) (*Job, error) {
	var j *Job
	err := d.do(func(tx *bbolt.Tx) error {
		old, err := get(tx, id[:])
		if err != nil {
			return err
		}
		next := *old
		if err := f(&next); err != nil {
			return err
		}
		j = &next
		return put(tx, old, &next)
	})
	if err != nil {
		return nil, err
	}
	return j, nil
}

// list walks the narrowest index, newest first.
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
	var page Page
	err = d.bolt.View(func(tx *bbolt.Tx) error {
		bucket, prefix := tx.Bucket(bucketTime), []byte{}
		switch {
		case f.Receiver != "":
			bucket, prefix = tx.Bucket(bucketReceiver), append([]byte(f.Receiver), 0)
		case len(f.States) == 1:
			bucket, prefix = tx.Bucket(bucketState), []byte{byte(f.States[0])}
		}
		upper := bytes.Repeat([]byte{0xff}, tailLen)
		if !f.Before.IsZero() {
			upper = binary.BigEndian.AppendUint64(nil, uint64(f.Before.UnixNano())) //nolint:gosec // after 1970
		}
		if len(after) > 0 && bytes.Compare(after, upper) < 0 {
			upper = after
		}
		c := bucket.Cursor()
		for k := seekBelow(c, append(bytes.Clone(prefix), upper...)); k != nil && bytes.HasPrefix(k, prefix); k, _ = c.Prev() {
			t := k[len(prefix):]
			if len(t) != tailLen {
				continue
			}
			if !f.After.IsZero() && int64(binary.BigEndian.Uint64(t)) < f.After.UnixNano() { //nolint:gosec // after 1970
				break
			}
			j, err := get(tx, t[8:])
			if err != nil {
				return err
			}
			if !f.match(j) {
				continue
			}
			if len(page.Jobs) == size {
				page.Next = base64.RawURLEncoding.EncodeToString(tail(&page.Jobs[size-1]))
				break
			}
			page.Jobs = append(page.Jobs, *j)
		}
		return nil
	})
	return page, err
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

func (f *Filter) match(j *Job) bool {
	if f.Principal != "" && j.Spec.Principal != f.Principal || f.Receiver != "" && j.Spec.Receiver != f.Receiver {
		return false
	}
	if len(f.States) == 0 {
		return true
	}
	for _, s := range f.States {
		if s == j.State {
			return true
		}
	}
	return false
}

// unfinished calls fn for every job that has not ended, oldest first.
func (d *db) unfinished(fn func(*Job) error) error {
	return d.bolt.View(func(tx *bbolt.Tx) error {
		for _, s := range []State{Running, Queued, Waiting} {
			c := tx.Bucket(bucketState).Cursor()
			for k, _ := c.Seek([]byte{byte(s)}); len(k) > 0 && k[0] == byte(s); k, _ = c.Next() {
				j, err := get(tx, k[len(k)-16:])
				if err != nil {
					return err
				}
				if err := fn(j); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// clean removes at most limit jobs that ended before t.
func (d *db) clean(t time.Time, limit int) (n int, err error) {
	err = d.bolt.Update(func(tx *bbolt.Tx) error {
		var old []*Job
		c := tx.Bucket(bucketTime).Cursor()
		for k, _ := c.First(); k != nil && len(old) < limit; k, _ = c.Next() {
			if int64(binary.BigEndian.Uint64(k)) >= t.UnixNano() { //nolint:gosec // after 1970
				break
			}
			j, err := get(tx, k[8:])
			if err != nil {
				return err
			}
			if j.State.Final() && j.Finished.Before(t) {
				old = append(old, j)
			}
		}
		for _, j := range old {
			if err := remove(tx, j); err != nil {
				return err
			}
		}
		n = len(old)
		return nil
	})
	return n, err
}
