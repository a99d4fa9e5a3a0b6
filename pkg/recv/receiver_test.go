package recv_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/e27efefb/sluice/pkg/recv"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// clock is moved by hand.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

func TestRefusals(t *testing.T) {
	h := newHouse(t, func(h *house) { h.cfg.AllowNone = false })
	me, ctx := h.as("alice"), testContext(t)
	for name, tt := range map[string]struct {
		change func(*transfer.OfferPart)
		want   transfer.Kind
	}{
		"no id":            {func(p *transfer.OfferPart) { p.ID = transfer.ID{} }, transfer.Invalid},
		"id of version 4":  {func(p *transfer.OfferPart) { p.ID[6] = 0x40 }, transfer.Invalid},
		"no session":       {func(p *transfer.OfferPart) { p.Session = transfer.Session{} }, transfer.Invalid},
		"no entries":       {func(p *transfer.OfferPart) { p.Entries = nil }, transfer.Invalid},
		"absolute path":    {func(p *transfer.OfferPart) { p.Entries[0].Path = "/etc/passwd" }, transfer.Invalid},
		"traversal":        {func(p *transfer.OfferPart) { p.Entries[0].Path = "../x" }, transfer.Invalid},
		"traversal, into":  {func(p *transfer.OfferPart) { p.Options.Into = "a/../.." }, transfer.Invalid},
		"private":          {func(p *transfer.OfferPart) { p.Options.Into = ".sluice" }, transfer.Invalid},
		"escape":           {func(p *transfer.OfferPart) { p.Entries[0].Path = "a\x1b[2Jb" }, transfer.Invalid},
		"negative size":    {func(p *transfer.OfferPart) { p.Entries[0].Size = -2 }, transfer.Invalid},
		"huge size":        {func(p *transfer.OfferPart) { p.Entries[0].Size = transfer.MaxFileSize + 1 }, transfer.Invalid},
		"more than a disk": {func(p *transfer.OfferPart) { p.Entries[0].Size = transfer.MaxFileSize }, transfer.NoSpace},
		"total":            {func(p *transfer.OfferPart) { p.Options.TotalBytes = transfer.MaxFileSize }, transfer.NoSpace},
		"index":            {func(p *transfer.OfferPart) { p.Entries[0].Index = 5 }, transfer.Invalid},
		"setuid":           {func(p *transfer.OfferPart) { p.Entries[0].Mode = 0o4755 }, transfer.Invalid},
		"type":             {func(p *transfer.OfferPart) { p.Entries[0].Type = 9 }, transfer.Invalid},
		"link to nothing":  {func(p *transfer.OfferPart) { p.Entries[0].Type, p.Entries[0].Size = transfer.Symlink, 0 }, transfer.Invalid},
		"unverified":       {func(p *transfer.OfferPart) { p.Options.Algorithm = transfer.None }, transfer.Denied},
		"sha256":           {func(p *transfer.OfferPart) { p.Options.Algorithm = transfer.SHA256 }, transfer.Invalid},
		"policy":           {func(p *transfer.OfferPart) { p.Options.Conflict = 9 }, transfer.Invalid},
		"label":            {func(p *transfer.OfferPart) { p.Options.Label = "a\x1bb" }, transfer.Invalid},
		"negative lanes":   {func(p *transfer.OfferPart) { p.Options.Lanes = -1 }, transfer.Invalid},
		"expected": {func(p *transfer.OfferPart) {
			p.Entries[0].Expected = transfer.Digest{Algorithm: transfer.SHA256, Sum: []byte{1}}
		}, transfer.Invalid},
	} {
		for _, plan := range []bool{false, true} {
			p := offerPart(transfer.NewID(), transfer.NewSession(), "file", 10)
			tt.change(p)
			if p.Plan = plan; plan && name == "index" {
				continue // a plan judges single parts
			}
			a, err := me.Negotiate(ctx, p)
			if transfer.KindOf(err) != tt.want {
				t.Errorf("%s, plan %v: %+v, %v; want %v", name, plan, a, err, tt.want)
				continue
			}
			if strings.ContainsAny(err.Error(), "\x1b\n") {
				t.Errorf("%s: %q carries what it was sent", name, err)
			}
		}
	}
	many := offerPart(transfer.NewID(), transfer.NewSession(), "good", 1)
	many.Entries = append(many.Entries, transfer.Entry{Index: 1, Path: "../a"}, transfer.Entry{Index: 2, Path: "b/"})
	_, err := me.Negotiate(ctx, many)
	var e *transfer.Error
	if !errors.As(err, &e) || len(e.Problems) != 2 {
		t.Errorf("%v does not name both bad files", err)
	}
	if page, err := me.List(ctx, transfer.ListFilter{}); err != nil || len(page.Transfers) != 0 {
		t.Errorf("refused offers left %+v, %v", page.Transfers, err)
	}
	if u, err := h.disk.Usage(ctx); err != nil || u.Reserved != 0 {
		t.Errorf("refused offers keep %+v, %v", u, err)
	}
}

func TestPolicyOfCaller(t *testing.T) {
	h := newHouse(t, nil)
	ctx := testContext(t)
	v := h.r.As(recv.Caller{Principal: "ci", Prefix: "builds", MaxTransfer: 100, Conflicts: func(c transfer.Conflict) bool { return c == transfer.Fail }})
	p := offerPart(transfer.NewID(), transfer.NewSession(), "file", 101)
	_, err := v.Negotiate(ctx, p)
	kindOf(t, err, transfer.NoSpace)
	p = offerPart(transfer.NewID(), transfer.NewSession(), "file", 10)
	p.Options.Conflict = transfer.Overwrite
	_, err = v.Negotiate(ctx, p)
	kindOf(t, err, transfer.Denied)
	p.Options.Conflict = transfer.Fail
	j := &job{t: t, h: h, id: p.ID, session: p.Session, data: []byte("0123456789")}
	if j.a, err = v.Negotiate(ctx, p); err != nil {
		t.Fatal(err)
	}
	l := j.lane()
	if err := l.Frame(0, 0, j.data); err != nil {
		t.Fatal(err)
	}
	expect(t, l, chunks(0, 1))
	d := blake3.Sum256(j.data)
	if _, err := v.Commit(ctx, &transfer.CommitPart{ID: j.id, Session: j.session, Last: true, Files: []transfer.FileDigest{{Size: 10, Digest: transfer.Digest{Algorithm: transfer.BLAKE3, Sum: d[:]}}}}); err != nil {
		t.Fatal(err)
	}
	if string(h.read("builds/file")) != string(j.data) {
		t.Error("the prefix was not used")
	}
	admin := h.r.As(recv.Caller{Principal: "root", Admin: true})
	if i, err := admin.Get(ctx, j.id); err != nil || i.Principal != "ci" {
		t.Errorf("an admin sees %+v, %v", i, err)
	}
	if page, err := admin.List(ctx, transfer.ListFilter{}); err != nil || len(page.Transfers) != 1 {
		t.Errorf("an admin lists %+v, %v", page, err)
	}
}

func TestLimitOfTransfers(t *testing.T) {
	h := newHouse(t, func(h *house) { h.cfg.Limits.Transfers = 2 })
	me, ctx := h.as("alice"), testContext(t)
	a, b := h.offer("a", 10), h.offer("b", 10)
	_, err := me.Negotiate(ctx, offerPart(transfer.NewID(), transfer.NewSession(), "c", 1))
	kindOf(t, err, transfer.Busy)
	var e *transfer.Error
	if !errors.As(err, &e) || e.RetryAfter <= 0 {
		t.Errorf("%v has no advice when to try again", err)
	}
	if s := h.r.Status(ctx); s.Active != 2 || s.FreeSlots != 0 || !s.Serving {
		t.Errorf("%+v", s)
	}
	a.finish()
	h.offer("c", 1).finish()
	b.finish()
}

func TestParkedAndExpired(t *testing.T) {
	var c clock
	h := newHouse(t, func(h *house) { h.cfg.Clock = c.now })
	me, ctx := h.as("alice"), testContext(t)
	j := h.offer("file", 2*mib)
	l := j.lane()
	if err := l.Frame(0, 0, j.data[:mib]); err != nil {
		t.Fatal(err)
	}
	expect(t, l, chunks(0, 1))
	c.advance(time.Hour)
	h.r.Clean(ctx)
	if s := h.r.Status(ctx); s.Active != 1 {
		t.Errorf("a transfer with a lane was parked: %+v", s)
	}
	_ = l.Close()
	soon(t, "no lane", func() bool { return h.r.Status(ctx).Lanes == 0 })
	c.advance(time.Hour)
	h.r.Clean(ctx)
	if s := h.r.Status(ctx); s.Active != 0 {
		t.Errorf("an idle transfer was not parked: %+v", s)
	}
	_, err := j.commit()
	kindOf(t, err, transfer.Unavailable)
	j.session = transfer.NewSession()
	if j.a, err = me.Negotiate(ctx, offerPart(j.id, j.session, "file", 2*mib)); err != nil {
		t.Fatal(err)
	}
	if !j.a.Files[0].Held.Has(0) {
		t.Errorf("held %v after parking", j.a.Files[0].Held)
	}
	for range 30 { // looking at it is no progress
		c.advance(time.Hour)
		if _, err := me.Get(ctx, j.id); err != nil {
			break
		}
		c.advance(10 * time.Minute)
		h.r.Clean(ctx)
	}
	i, err := me.Get(ctx, j.id)
	if err != nil || i.State != transfer.StateAborted || !strings.Contains(i.Reason, "no progress") {
		t.Errorf("after a day: %+v, %v", i, err)
	}
	if u, err := h.disk.Usage(ctx); err != nil || u.Reserved != 0 || u.Staged != 0 {
		t.Errorf("space is not given back: %+v, %v", u, err)
	}
	c.advance(8 * 24 * time.Hour)
	h.r.Clean(ctx)
	_, err = me.Get(ctx, j.id)
	kindOf(t, err, transfer.NotFound)
}

// A restart of the receiver is no progress, and hides none: an unfinished transfer
// goes a day after its last checkpoint, and lists say all the time what is held.
func TestExpiryCountsOverRestarts(t *testing.T) {
	var c clock
	h := newHouse(t, func(h *house) { h.cfg.Clock, h.cfg.Limits.CheckpointBytes = c.now, 1 })
	ctx := testContext(t)
	j := h.offer("file", 2*mib)
	l := j.lane()
	if err := l.Frame(0, 0, j.data[:mib]); err != nil {
		t.Fatal(err)
	}
	expect(t, l, chunks(0, 1))
	soon(t, "held", func() bool {
		i, err := h.as("alice").Get(ctx, j.id)
		return err == nil && i.BytesHeld == mib
	})
	_ = l.Close()
	for i := range 3 {
		c.advance(7 * time.Hour)
		h.restart()
		h.r.Clean(ctx)
		me := h.as("alice")
		page, err := me.List(ctx, transfer.ListFilter{})
		if err != nil || len(page.Transfers) != 1 {
			t.Fatalf("restart %d: %+v, %v", i, page, err)
		}
		shown, err := me.Get(ctx, j.id)
		if err != nil {
			t.Fatalf("restart %d: %v", i, err)
		}
		for _, x := range []transfer.Info{page.Transfers[0], shown} {
			if x.BytesHeld != mib || x.Bytes != 2*mib || x.First != "file" || x.Epoch != 1 || c.now().Sub(x.Updated) < time.Duration(7*(i+1))*time.Hour-time.Minute {
				t.Errorf("restart %d: %+v", i, x)
			}
		}
	}
	c.advance(4 * time.Hour)
	h.restart()
	h.r.Clean(ctx)
	i, err := h.as("alice").Get(ctx, j.id)
	if err != nil || i.State != transfer.StateAborted || !strings.Contains(i.Reason, "no progress") {
		t.Errorf("after a day with restarts: %+v, %v", i, err)
	}
}

func TestRunEnds(t *testing.T) {
	h := newHouse(t, func(h *house) { h.cfg.Limits.ParkAfter = time.Millisecond })
	ctx, cancel := context.WithCancel(testContext(t))
	done := make(chan error, 1)
	go func() { done <- h.r.Run(ctx) }()
	j := h.offer("file", 10)
	soon(t, "parked by Run", func() bool { return h.r.Status(ctx).Active == 0 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	_ = j
}

func TestPlainUpload(t *testing.T) {
	h := newHouse(t, nil)
	c, ctx := recv.Caller{Principal: "camera"}, testContext(t)
	data := strings.Repeat("0123456789abcdef", 160<<10) // 2.5 MiB
	for _, n := range []int{0, 1, mib, 2*mib + 5} {
		u, err := h.r.Plain(ctx, c, "upload-"+strings.Repeat("x", n%7))
		if err != nil {
			t.Fatal(err)
		}
		for rest := data[:n]; rest != ""; {
			k := min(len(rest), 300_000)
			if w, err := u.Write([]byte(rest[:k])); w != k || err != nil {
				t.Fatal(w, err)
			}
			rest = rest[k:]
		}
		r, err := u.Publish(ctx)
		if err != nil {
			t.Fatal(err)
		}
		d := blake3.Sum256([]byte(data[:n]))
		if r.Bytes != int64(n) || string(r.Files[0].Digest.Sum) != string(d[:]) || r.ID != u.ID() {
			t.Errorf("%d octets: %+v", n, r)
		}
		if string(h.read("upload-"+strings.Repeat("x", n%7))) != data[:n] {
			t.Errorf("%d octets: content differs", n)
		}
		i, err := h.r.Get(ctx, c, u.ID())
		if err != nil || !i.Undeclared || i.State != transfer.StateCommitted {
			t.Errorf("%+v, %v", i, err)
		}
	}
	u, err := h.r.Plain(ctx, c, "given-up")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	page, err := h.r.List(ctx, c, transfer.ListFilter{States: []transfer.State{transfer.StateOpen}})
	if err != nil || len(page.Transfers) != 1 || !page.Transfers[0].Undeclared {
		t.Errorf("%+v, %v", page, err)
	}
	u.Discard(errors.New("reset by peer"))
	if i, err := h.r.Get(ctx, c, u.ID()); err != nil || i.State != transfer.StateAborted || !strings.Contains(i.Reason, "reset") {
		t.Errorf("%+v, %v", i, err)
	}
	_, err = h.r.Plain(ctx, c, "../up")
	kindOf(t, err, transfer.Invalid)
	_, err = h.r.Plain(ctx, c, "upload-")
	kindOf(t, err, transfer.Exists)
	if len(h.visible()) != 4 {
		t.Errorf("visible: %v", h.visible())
	}
}

// tally is an Observer that adds up.
type tally struct {
	mu                       sync.Mutex
	bytes, held, repairs     int64
	lanes, most, checkpoints int
	commits                  []transfer.Kind
	states                   []string
}

func (o *tally) Bytes(n int64) { o.mu.Lock(); defer o.mu.Unlock(); o.bytes += n }

func (o *tally) Lane(d int, _ transfer.Kind) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lanes += d
	o.most = max(o.most, o.lanes)
}

func (o *tally) Checkpoint(_ time.Duration, n int64, _ error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.checkpoints++
	o.held += n
}

func (o *tally) Commit(_ time.Duration, k transfer.Kind, repairs int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.commits = append(o.commits, k)
	o.repairs += repairs
}

func (o *tally) State(from, to transfer.State, _ transfer.Kind) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.states = append(o.states, from.String()+"→"+to.String())
}

func TestObserverAndWatch(t *testing.T) {
	o := &tally{}
	h := newHouse(t, func(h *house) {
		h.cfg.Observer = o
		h.cfg.Limits.CheckpointBytes = mib
	})
	ctx := testContext(t)
	j := h.offer("file", 3*mib)
	var seen []transfer.Info
	watched := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		watched <- h.as("alice").Watch(ctx, []transfer.ID{j.id}, func(i transfer.Info) error {
			if seen = append(seen, i); len(seen) == 1 {
				close(started)
			}
			return nil
		})
	}()
	<-started
	l := j.lane()
	if err := l.Frame(0, 0, j.data); err != nil {
		t.Fatal(err)
	}
	for i := range uint32(3) {
		expect(t, l, chunks(i, 1))
	}
	soon(t, "a checkpoint", func() bool {
		i, err := h.as("alice").Get(ctx, j.id)
		return err == nil && i.BytesHeld == 3*mib
	})
	_ = l.Close()
	if _, err := j.commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-watched; err != nil {
		t.Error(err)
	}
	if last := seen[len(seen)-1]; last.State != transfer.StateCommitted || last.Receipt == nil || seen[0].State != transfer.StateOpen {
		t.Errorf("watched %+v", seen)
	}
	soon(t, "the commit is reported", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return len(o.commits) == 1 && o.lanes == 0
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bytes != 3*mib || o.held != 3*mib || o.checkpoints == 0 || o.most != 1 || o.commits[0] != transfer.OK {
		t.Errorf("%+v", o)
	}
	if got := strings.Join(o.states, " "); got != "unknown→open open→committing committing→committed" {
		t.Errorf("states %s", got)
	}
}

// TestRateOfPrincipal: 1 MiB at 2 MiB/s, of which 256 KiB come at once.
func TestRateOfPrincipal(t *testing.T) {
	h := newHouse(t, nil)
	p := offerPart(transfer.NewID(), transfer.NewSession(), "file", mib)
	j := &job{t: t, h: h, id: p.ID, session: p.Session, data: make([]byte, mib)}
	var err error
	if j.a, err = h.r.Negotiate(testContext(t), recv.Caller{Principal: "alice", Rate: 2 * mib}, p); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	j.finish()
	if d := time.Since(begin); d < 300*time.Millisecond {
		t.Errorf("1 MiB came in %v at 2 MiB/s", d)
	}
}

func TestListPages(t *testing.T) {
	h := newHouse(t, nil)
	ctx := testContext(t)
	want := map[transfer.ID]bool{}
	for i := range 5 {
		j := h.offer("open"+string(rune('a'+i)), 10)
		want[j.id] = true
		k := h.offer("done"+string(rune('a'+i)), 10)
		k.finish()
		want[k.id] = true
	}
	h.restart()
	me := h.as("alice")
	for _, size := range []int{1, 3, 5, 100} {
		got, f := map[transfer.ID]bool{}, transfer.ListFilter{PageSize: size}
		finished := false
		for {
			page, err := me.List(ctx, f)
			if err != nil || len(page.Transfers) > size {
				t.Fatalf("%d transfers, %v", len(page.Transfers), err)
			}
			for _, i := range page.Transfers {
				if got[i.ID] {
					t.Errorf("%v came twice", i.ID)
				}
				got[i.ID] = true
				if finished && !i.State.Final() {
					t.Error("an unfinished one after a finished one")
				}
				finished = i.State.Final()
			}
			if f.PageToken = page.Next; page.Next == "" {
				break
			}
		}
		if len(got) != len(want) {
			t.Errorf("pages of %d: %d transfers, want %d", size, len(got), len(want))
		}
	}
	_, err := me.List(ctx, transfer.ListFilter{PageToken: "nonsense"})
	kindOf(t, err, transfer.Invalid)
}
