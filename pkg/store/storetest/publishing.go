package storetest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// filePolicies is the table of one file × what is there × policy.
func filePolicies(w *world) {
	type row struct {
		there  string // "", file, same, directory, link
		policy transfer.Conflict
		want   string // outcome, or "Exists"
	}
	for i, tt := range []row{
		{"", transfer.Fail, "published"},
		{"", transfer.Overwrite, "published"},
		{"", transfer.Rename, "published"},
		{"", transfer.SkipIdentical, "published"},
		{"file", transfer.Fail, "Exists"},
		{"file", transfer.Overwrite, "overwrote"},
		{"file", transfer.Rename, "renamed"},
		{"file", transfer.SkipIdentical, "Exists"},
		{"same", transfer.Fail, "Exists"},
		{"same", transfer.SkipIdentical, "skipped"},
		{"directory", transfer.Fail, "Exists"},
		{"directory", transfer.Overwrite, "Exists"},
		{"directory", transfer.Rename, "renamed"},
		{"directory", transfer.SkipIdentical, "Exists"},
		{"link", transfer.Fail, "Exists"},
		{"link", transfer.Overwrite, "overwrote"},
		{"link", transfer.Rename, "renamed"},
	} {
		name := fmt.Sprintf("f%02d.txt", i)
		j := w.job(file(name, 1000))
		j.opts.Conflict = tt.policy
		w.occupy(name, tt.there, j.data[transfer.Path(name)])
		before := w.describe(name)
		j.create()
		err := j.tryAll()
		switch {
		case tt.want == "Exists":
			if transfer.KindOf(err) != transfer.Exists || w.describe(name) != before {
				w.Errorf("%+v: %v, and %s was %s", tt, err, w.describe(name), before)
			}
			if err := j.st.Discard(w.ctx, transfer.StateAborted, err); err != nil {
				w.Errorf("discard: %v", err)
			}
			continue
		case err != nil:
			w.Errorf("%+v: %v", tt, err)
			continue
		}
		r := j.publish()
		if r.Files[0].Outcome.String() != tt.want {
			w.Errorf("%+v: %+v", tt, r.Files[0])
		}
		final := name
		if tt.want == "renamed" {
			final = fmt.Sprintf("f%02d (1).txt", i)
			if r.Files[0].Published != final || w.describe(name) != before {
				w.Errorf("%+v: published as %q, the old one is %s, was %s", tt, r.Files[0].Published, w.describe(name), before)
			}
		} else if r.Files[0].Published != "" {
			w.Errorf("%+v: published as %q", tt, r.Files[0].Published)
		}
		w.wantFile(final, j.data[transfer.Path(name)])
	}
	w.wantFile("canary", []byte("canary"))
}

// tryAll begins, writes and asks Publish, which may refuse.
func (j *job) tryAll() error {
	j.w.Helper()
	j.epoch++
	if err := j.st.Begin(j.w.ctx, j.epoch, j.opts); err != nil {
		return err
	}
	if _, err := j.st.Add(j.w.ctx, j.entries); err != nil {
		return err
	}
	if err := j.st.Seal(j.w.ctx); err != nil {
		return err
	}
	j.writeAll()
	p := j.clonePlan()
	return p
}

// clonePlan asks whether a single root is free by publishing under fail only;
// for the other policies there is nothing to refuse.
func (j *job) clonePlan() error {
	if j.opts.Conflict != transfer.Fail && j.opts.Conflict != transfer.SkipIdentical {
		return nil
	}
	if _, fs, _ := j.st.Entry(0); fs.Skip {
		return nil
	}
	if _, err := os.Lstat(filepath.Join(j.w.root, string(j.entries[0].Path))); err != nil {
		return nil //nolint:nilerr // free
	}
	_, err := j.st.Publish(j.w.ctx, transfer.Receipt{}, nil)
	return err
}

// occupy puts something in the place of a name.
func (w *world) occupy(name, what string, same []byte) {
	w.Helper()
	full := filepath.Join(w.root, name)
	var err error
	switch what {
	case "file":
		w.put(name, "older content of "+name)
	case "same":
		w.put(name, string(same))
		err = os.Chtimes(full, moment, moment)
	case "directory":
		w.put(name+"/inside", "inside")
	case "link":
		w.put("canary", "canary")
		err = os.Symlink("canary", full)
	}
	if err != nil {
		w.Fatal(err)
	}
}

// describe writes what is at a path, for comparing.
func (w *world) describe(name string) string {
	full := filepath.Join(w.root, name)
	st, err := os.Lstat(full)
	if err != nil {
		return "absent"
	}
	s := fmt.Sprint(st.Mode(), st.Size(), st.ModTime().UnixNano())
	if st.Mode().IsRegular() {
		b, _ := os.ReadFile(full)
		s += string(b)
	}
	if st.Mode()&os.ModeSymlink != 0 {
		to, _ := os.Readlink(full)
		s += to
	}
	return s
}

// treePolicies merges a tree into an existing one under each policy.
func treePolicies(w *world) {
	for policy, want := range map[transfer.Conflict]map[string]string{
		transfer.Fail:          {"new": "published", "old": "exists", "same": "exists", "sub": "merged", "sub/new": "published", "sub/old": "exists", "fresh": "published", "fresh/a": "published", "": "merged"},
		transfer.Overwrite:     {"new": "published", "old": "overwrote", "same": "overwrote", "sub": "merged", "sub/new": "published", "sub/old": "overwrote", "fresh": "published", "fresh/a": "published", "": "merged"},
		transfer.Rename:        {"new": "published", "old": "renamed", "same": "renamed", "sub": "merged", "sub/new": "published", "sub/old": "renamed", "fresh": "published", "fresh/a": "published", "": "merged"},
		transfer.SkipIdentical: {"new": "published", "old": "exists", "same": "skipped", "sub": "merged", "sub/new": "published", "sub/old": "exists", "fresh": "published", "fresh/a": "published", "": "merged"},
	} {
		base := "t-" + policy.String()
		j := w.job(directory(base), file(base+"/new", 10), file(base+"/old", 20), file(base+"/same", 30), directory(base+"/sub"), file(base+"/sub/new", 40),
			file(base+"/sub/old", 2*mib), directory(base+"/fresh"), file(base+"/fresh/a", 50))
		j.opts.Conflict = policy
		w.occupy(base+"/old", "file", nil)
		w.occupy(base+"/same", "same", j.data[transfer.Path(base+"/same")])
		w.occupy(base+"/sub/old", "file", nil)
		w.put(base+"/untouched", "u")
		j.start()
		r := j.publish()
		for _, f := range r.Files {
			rel := strings.TrimPrefix(strings.TrimPrefix(f.Path, base), "/")
			if f.Outcome.String() != want[rel] {
				w.Errorf("%v: %s is %v, want %s (%s)", policy, f.Path, f.Outcome, want[rel], f.Reason)
			}
			if (f.Reason != "") != (want[rel] == "exists") {
				w.Errorf("%v: %s has the reason %q", policy, f.Path, f.Reason)
			}
			data := j.data[transfer.Path(f.Path)]
			switch f.Outcome {
			case transfer.Published, transfer.Overwrote, transfer.Skipped:
				if data != nil {
					w.wantFile(f.Path, data)
				}
			case transfer.Renamed:
				if f.Published != f.Path+" (1)" {
					w.Errorf("%s is published as %q", f.Path, f.Published)
				}
				w.wantFile(f.Published, data)
				fallthrough
			case transfer.Conflicted:
				if got := w.describe(f.Path); rel != "same" && !strings.Contains(got, "older content") {
					w.Errorf("%v: %s was changed: %s", policy, f.Path, got)
				}
			}
		}
		w.wantFile(base+"/untouched", []byte("u"))
		if r.Partial() != (r.Counts["exists"] > 0) || r.Counts["merged"] != 2 {
			w.Errorf("%v: counts %v", policy, r.Counts)
		}
	}
}

// takenRoot: a name that is taken after the offer keeps the stage, and another
// policy publishes it without sending again.
func takenRoot(w *world) {
	j := w.job(file("f", 2*mib))
	j.opts.TotalFiles = 1
	j.start()
	w.put("f", "faster")
	for range 2 {
		_, err := j.st.Publish(w.ctx, transfer.Receipt{}, nil)
		w.wantKind(err, transfer.Exists)
		if transfer.HintOf(err) == "" {
			w.Error("no hint")
		}
	}
	w.wantFile("f", []byte("faster"))
	j.epoch++
	w.wantKind(j.st.Begin(w.ctx, j.epoch, j.opts), transfer.OK)
	_, err := j.st.Add(w.ctx, j.entries)
	w.wantKind(err, transfer.Exists)
	j.opts.Conflict = transfer.Overwrite
	if fs := j.begin(); fs[0].Held.Count() != 2 {
		w.Errorf("held %v", fs)
	}
	if r := j.publish(); r.Files[0].Outcome != transfer.Overwrote {
		w.Errorf("receipt %+v", r)
	}
	w.wantFile("f", j.data["f"])
	// A directory in the place of the root directory is merged, a file is not.
	k := w.job(directory("f"), file("f/x", 3))
	k.create()
	_ = k.st.Begin(w.ctx, 1, k.opts)
	_, err = k.st.Add(w.ctx, k.entries)
	w.wantKind(err, transfer.Exists)
	w.wantFile("f", j.data["f"])
}

func hundred(w *world) {
	const n = 100
	jobs := make([]*job, n)
	for i := range jobs {
		jobs[i] = w.job(file("one", 100))
		jobs[i].data["one"] = random(100, 1000+i)
		jobs[i].start()
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var won []*job
	for _, j := range jobs {
		wg.Go(func() {
			_, err := j.st.Publish(w.ctx, transfer.Receipt{}, nil)
			if err == nil {
				mu.Lock()
				won = append(won, j)
				mu.Unlock()
			} else if transfer.KindOf(err) != transfer.Exists {
				w.Errorf("publish: %v", err)
			} else if err := j.st.Discard(w.ctx, transfer.StateFailed, err); err != nil {
				w.Errorf("discard: %v", err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		w.Fatalf("%d senders won", len(won))
	}
	w.wantFile("one", won[0].data["one"])
	w.wantLeft("one")
}

// skipIdentical: what was identical at the offer and is not at publishing is
// reported, never lost silently.
func skipIdentical(w *world) {
	j := w.job(directory("d"), file("d/same", 100), file("d/goes", 100), file("d/other", 100))
	j.opts.Conflict = transfer.SkipIdentical
	w.occupy("d/same", "same", j.data["d/same"])
	w.occupy("d/goes", "same", j.data["d/goes"])
	w.occupy("d/other", "same", j.data["d/other"])
	if err := os.Chtimes(filepath.Join(w.root, "d/other"), moment, moment.Add(time.Second)); err != nil {
		w.Fatal(err)
	}
	j.create()
	fs := j.begin()
	if !fs[1].Skip || !fs[2].Skip || fs[3].Skip {
		w.Errorf("states %+v", fs)
	}
	j.writeAll()
	if err := os.Remove(filepath.Join(w.root, "d/goes")); err != nil {
		w.Fatal(err)
	}
	r := j.publish()
	for i, want := range []transfer.Outcome{transfer.DirExisted, transfer.Skipped, transfer.FailedFile, transfer.Conflicted} {
		if r.Files[i].Outcome != want {
			w.Errorf("%s: %v, want %v", r.Files[i].Path, r.Files[i].Outcome, want)
		}
	}
}

func (w *world) wantMode(path string, want os.FileMode) {
	w.Helper()
	st, err := os.Lstat(filepath.Join(w.root, path))
	if err != nil || st.Mode()&(os.ModePerm|os.ModeSetuid|os.ModeSetgid|os.ModeSticky) != want {
		w.Errorf("%s: mode %v, %v, want %v", path, st.Mode(), err, want)
	}
}

func (w *world) wantTime(path string, want time.Time) {
	w.Helper()
	st, err := os.Lstat(filepath.Join(w.root, path))
	if err != nil || !st.ModTime().Equal(want) {
		w.Errorf("%s: time %v, %v, want %v", path, st.ModTime(), err, want)
	}
}

func modes(w *world) {
	at := func(e transfer.Entry, mode os.FileMode, d time.Duration) transfer.Entry {
		e.Mode, e.ModTime = mode, moment.Add(d)
		return e
	}
	j := w.job(
		at(directory("ro"), 0o555, 1), at(file("ro/big", mib+1), 0o444, 2), at(file("ro/small", 10), 0o400, 3), at(file("ro/empty", 0), 0o777, 4),
		at(directory("ro/none"), 0, 5), at(file("ro/none/x", 1), 0, 6), at(directory("ro/shut"), 0o500, 7), at(file("ro/shut/y", 1), 0o640|os.ModeSetuid|os.ModeSetgid|os.ModeSticky, 8),
		file("implied/deep/z", 5), at(file("ro/middle", 600_000), 0o604, 9),
	)
	j.start()
	j.publish()
	for i, e := range j.entries {
		if e.Mode.Perm() != 0 {
			w.wantMode(string(e.Path), e.Mode.Perm())
		}
		if e.Path != "implied/deep/z" {
			w.wantTime(string(e.Path), e.ModTime)
		}
		if i > 0 && e.Type == transfer.Regular {
			w.wantFile(string(e.Path), j.data[e.Path])
		}
	}
	// Let the test's own clean-up in.
	for _, d := range []string{"ro", "ro/shut"} {
		if err := os.Chmod(filepath.Join(w.root, d), 0o700); err != nil { //nolint:gosec // a directory
			w.Error(err)
		}
	}
	// Into an existing directory whose mode and time stay as they are.
	w.put("kept/a", "a")
	if err := os.Chmod(filepath.Join(w.root, "kept"), 0o711); err != nil { //nolint:gosec // a directory
		w.Fatal(err)
	}
	k := w.job(at(directory("kept"), 0o777, 0), file("kept/b", 5))
	k.start()
	k.publish()
	w.wantMode("kept", 0o711)
}

func links(w *world) {
	link := func(path, target string) transfer.Entry {
		return transfer.Entry{Path: transfer.Path(path), Type: transfer.Symlink, Link: target, ModTime: moment}
	}
	j := w.job(directory("d"), file("d/f", 3), link("d/l", "f"), link("d/up", "../d/f"), link("d/broken", "nothing/here"))
	j.start()
	j.publish()
	for _, e := range j.entries[2:] {
		if got, err := os.Readlink(filepath.Join(w.root, string(e.Path))); got != e.Link {
			w.Errorf("%s: %q, %v", e.Path, got, err)
		}
		w.wantTime(string(e.Path), moment)
	}
	for _, target := range []string{"/etc/passwd", "..", "../..", "../../x", "a/../../../x", "", strings.Repeat("a/", 3000), "a\x00b"} {
		k := w.job(link("d2/l", target))
		k.create()
		_ = k.st.Begin(w.ctx, 1, k.opts)
		_, err := k.st.Add(w.ctx, k.entries)
		if want := (target == ".."); want != (err == nil) {
			w.Errorf("link to %q: %v", target, err)
		}
	}
	// A link on the way at the destination is never followed.
	outside := w.TempDir()
	if err := os.Symlink(outside, filepath.Join(w.root, "way")); err != nil {
		w.Fatal(err)
	}
	for _, e := range []transfer.Entry{file("way/x", 1), directory("way")} {
		k := w.job(e)
		k.create()
		_ = k.st.Begin(w.ctx, 1, k.opts)
		if _, err := k.st.Add(w.ctx, k.entries); err == nil {
			w.Errorf("%s through a link was accepted", e.Path)
		}
	}
	k := w.job(file("x", 1))
	k.opts.Into = "way"
	k.create()
	_ = k.st.Begin(w.ctx, 1, k.opts)
	_, err := k.st.Add(w.ctx, k.entries)
	w.wantKind(err, transfer.Denied)
	if list, _ := os.ReadDir(outside); len(list) > 0 {
		w.Errorf("outside has %v", list)
	}
}

func into(w *world) {
	j := w.job(file("f", 10))
	j.opts.Into = "a/b"
	j.spec.Prefix = "alice"
	j.start()
	r := j.publish()
	w.wantFile("alice/a/b/f", j.data["f"])
	if r.Files[0].Published != "" {
		w.Errorf("published as %q", r.Files[0].Published)
	}
	k := w.job(file("f", 20))
	k.opts.Into, k.opts.Conflict = "a/b", transfer.Rename
	k.spec.Prefix = "alice"
	k.start()
	if r := k.publish(); r.Files[0].Published != "a/b/f (1)" {
		w.Errorf("published as %q", r.Files[0].Published)
	}
	for _, bad := range []string{"/abs", "../x", ".sluice", "a//b", "a/"} {
		if _, err := w.s.Create(w.ctx, store.Spec{ID: transfer.NewID(), Options: transfer.Options{Into: bad}}); transfer.KindOf(err) != transfer.Invalid {
			w.Errorf("into %q: %v", bad, err)
		}
		if _, err := w.s.Create(w.ctx, store.Spec{ID: transfer.NewID(), Prefix: bad}); transfer.KindOf(err) != transfer.Invalid {
			w.Errorf("prefix %q: %v", bad, err)
		}
	}
	w.put("file", "x")
	m := w.job(file("f", 1))
	m.opts.Into = "file/deeper"
	m.create()
	_ = m.st.Begin(w.ctx, 1, m.opts)
	_, err := m.st.Add(w.ctx, m.entries)
	w.wantKind(err, transfer.Exists)
}
