package jobs

import (
	"bytes"
	"encoding/binary"
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
	bucketJobs      = []byte("jobs")      // id → record, see record.go
	bucketTime      = []byte("time")      // time, id
	bucketState     = []byte("state")     // state, time, id
	bucketReceiver  = []byte("receiver")  // name, 0, time, id
	bucketPrincipal = []byte("principal") // name, 0, time, id; since format 2
	bucketRequest   = []byte("request")   // principal, 0, request id → id
	bucketMeta      = []byte("meta")      // "format" → formatVersion
)

const (
	formatVersion = 3 // records are CBOR since 3, JSON before
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
		for _, name := range [][]byte{bucketJobs, bucketTime, bucketState, bucketReceiver, bucketPrincipal, bucketRequest, bucketMeta} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		meta := tx.Bucket(bucketMeta)
		if v := meta.Get([]byte("format")); len(v) == 1 && v[0] > formatVersion {
			return transfer.Errorf(transfer.Invalid, "open job file", path, "format %d is newer than this program", v[0]).WithHint("run the newer version that wrote it")
		}
		if v := meta.Get([]byte("format")); len(v) == 1 && v[0] < 2 {
			if err := indexPrincipals(tx); err != nil {
				return err
			}
		}
		return meta.Put([]byte("format"), []byte{formatVersion})
	})
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return &db{bolt: b, batcher: &batcher{bolt: b}}, nil
}

// indexPrincipals brings a file of format 1 to format 2.
func indexPrincipals(tx *bbolt.Tx) error {
	return tx.Bucket(bucketJobs).ForEach(func(id, _ []byte) error {
		j, err := get(tx, id)
		if err != nil {
			return err
		}
		return tx.Bucket(bucketPrincipal).Put(indexKeys(j)[string(bucketPrincipal)], nil)
	})
}

func tail(j *Job) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, tailLen), uint64(j.Created.UnixNano())) //nolint:gosec // after 1970
	return append(b, j.ID[:]...)
}

func indexKeys(j *Job) map[string][]byte {
	t := tail(j)
	return map[string][]byte{
		string(bucketTime):      t,
		string(bucketState):     append([]byte{byte(j.State)}, t...),
		string(bucketReceiver):  append(append([]byte(j.Spec.Receiver), 0), t...),
		string(bucketPrincipal): append(append([]byte(j.Spec.Principal), 0), t...),
	}
}

func requestKey(s *Spec) []byte { return []byte(s.Principal + "\x00" + s.RequestID) }

// put writes a job and moves its indexes; old is the record before, or nil.
func put(tx *bbolt.Tx, old, j *Job) error {
	record, err := encode(j)
	if err != nil {
		return err
	}
	keys := indexKeys(j)
	var before map[string][]byte
	if old != nil {
		before = indexKeys(old)
	}
	for name, k := range before {
		if !bytes.Equal(k, keys[name]) {
			if err := tx.Bucket([]byte(name)).Delete(k); err != nil {
				return err
			}
		}
	}
	for name, k := range keys {
		if bytes.Equal(k, before[name]) {
			continue
		}
		if err := tx.Bucket([]byte(name)).Put(k, nil); err != nil {
			return err
		}
	}
	if j.Spec.RequestID != "" {
		if err := tx.Bucket(bucketRequest).Put(requestKey(&j.Spec), j.ID[:]); err != nil {
			return err
		}
	}
	return tx.Bucket(bucketJobs).Put(j.ID[:], record)
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
	j := new(Job)
	if err := load(tx, id, j); err != nil {
		return nil, err
	}
	return j, nil
}

// load reads the record of a job into j, a zero Job.
func load(tx *bbolt.Tx, id []byte, j *Job) error {
	record := tx.Bucket(bucketJobs).Get(id)
	if record == nil {
		return transfer.Errorf(transfer.NotFound, "find job", "", "no such job")
	}
	return decode(record, j)
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
