package jobs

import (
	"encoding/json"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// fill makes a closed job file with random jobs and returns it and them, newest
// first.
func fill(t *testing.T, random *rand.Rand, n int) (string, []Job) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "jobs.db")
	d, err := openDB(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.bolt.Close()
	var all []Job
	if err := d.bolt.Update(func(tx *bbolt.Tx) error {
		for i := range n {
			pick := func(names ...string) string { return names[random.IntN(len(names))] }
			at := time.Unix(1_800_000_000+int64(i/2), 0).UTC() // two at a time
			j := Job{ID: transfer.NewID(), Created: at, State: Queued, Spec: Spec{Receiver: pick("a", "ab", "b"), Principal: pick("", "p", "pq")}}
			if err := put(tx, nil, &j); err != nil {
				return err
			}
			old := j
			j.State = State(1 + random.IntN(5)) // of seven: some have no job
			if err := put(tx, &old, &j); err != nil {
				return err
			}
			all = append(all, j)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b Job) int { return slices.Compare(tail(&b), tail(&a)) })
	return path, all
}

// pages lists in pages and returns the ids.
func pages(t *testing.T, d *db, f Filter) (ids []transfer.ID) {
	t.Helper()
	for {
		p, err := d.list(f)
		if err != nil {
			t.Fatal(err)
		}
		for i := range p.Jobs {
			ids = append(ids, p.Jobs[i].ID)
		}
		if f.PageToken = p.Next; p.Next == "" {
			return ids
		}
		if len(p.Jobs) != f.PageSize {
			t.Fatalf("a page of %d jobs, not %d, with more to come", len(p.Jobs), f.PageSize)
		}
	}
}

// Every combination of filters gives what looking at every job would.
func TestListFilters(t *testing.T) {
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // after 1970
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test
	path, all := fill(t, random, 300)
	d, err := openDB(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.bolt.Close()
	for range 500 {
		f := Filter{
			Principal: []string{"", "p", "pq", "nobody"}[random.IntN(4)], Receiver: []string{"", "a", "ab", "b", "nowhere"}[random.IntN(5)],
			PageSize: 1 + random.IntN(40),
		}
		for s := Queued; s <= Canceled; s++ {
			if random.IntN(4) == 0 {
				f.States = append(f.States, s)
			}
		}
		if random.IntN(3) == 0 {
			f.After = all[random.IntN(len(all))].Created
		}
		if random.IntN(3) == 0 {
			f.Before = all[random.IntN(len(all))].Created
		}
		var want []transfer.ID
		for _, j := range all {
			if (f.Principal == "" || f.Principal == j.Spec.Principal) && (f.Receiver == "" || f.Receiver == j.Spec.Receiver) &&
				(len(f.States) == 0 || slices.Contains(f.States, j.State)) &&
				(f.After.IsZero() || !j.Created.Before(f.After)) && (f.Before.IsZero() || j.Created.Before(f.Before)) {
				want = append(want, j.ID)
			}
		}
		if got := pages(t, d, f); !slices.Equal(got, want) {
			t.Fatalf("%+v: %d jobs %v, want %d %v", f, len(got), got, len(want), want)
		}
	}
}

// What a filter excludes is not read: records that cannot be read do no harm.
func TestListReadsOnlyMatches(t *testing.T) {
	path, all := fill(t, rand.New(rand.NewPCG(1, 1)), 100) //nolint:gosec // a test
	d, err := openDB(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.bolt.Close()
	match := func(j *Job) bool {
		return j.Spec.Receiver == "a" && j.Spec.Principal == "p" && (j.State == Waiting || j.State == Queued)
	}
	want := 0
	if err := d.bolt.Update(func(tx *bbolt.Tx) error {
		for i := range all {
			if match(&all[i]) {
				want++
			} else if err := tx.Bucket(bucketJobs).Put(all[i].ID[:], []byte("no record")); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	p, err := d.list(Filter{Receiver: "a", Principal: "p", States: []State{Waiting, Queued}})
	if err != nil || len(p.Jobs) != want || want == 0 {
		t.Errorf("%d jobs, want %d: %v", len(p.Jobs), want, err)
	}
	if p, err := d.list(Filter{States: []State{Failed, Canceled}}); err != nil || len(p.Jobs) > 0 {
		t.Errorf("%d jobs in states that none has: %v", len(p.Jobs), err)
	}
}

// A file of format 1, without an index by principal, gets it when it is opened;
// its records are JSON, as those of format 2.
func TestFormat1(t *testing.T) {
	path, all := fill(t, rand.New(rand.NewPCG(2, 2)), 50) //nolint:gosec // a test
	d, err := openDB(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.bolt.Update(func(tx *bbolt.Tx) error {
		if err := tx.DeleteBucket(bucketPrincipal); err != nil {
			return err
		}
		for i := range all {
			record, err := json.Marshal(all[i])
			if err == nil {
				err = tx.Bucket(bucketJobs).Put(all[i].ID[:], record)
			}
			if err != nil {
				return err
			}
		}
		return tx.Bucket(bucketMeta).Put([]byte("format"), []byte{1})
	}); err != nil {
		t.Fatal(err)
	}
	if err := d.bolt.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err = openDB(path); err != nil {
		t.Fatal(err)
	}
	defer d.bolt.Close()
	var want []transfer.ID
	for _, j := range all {
		if j.Spec.Principal == "p" {
			want = append(want, j.ID)
		}
	}
	if got := pages(t, d, Filter{Principal: "p", PageSize: 7}); !slices.Equal(got, want) || len(want) == 0 {
		t.Errorf("%d jobs, want %d", len(got), len(want))
	}
	if err := d.bolt.View(func(tx *bbolt.Tx) error {
		if v := tx.Bucket(bucketMeta).Get([]byte("format")); v[0] != formatVersion {
			t.Errorf("format %d", v)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
