package main

import (
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/e27efefb/sluice/pkg/transfer"
	pb "github.com/e27efefb/sluice/proto/sluice/v1"
)

// TestListOfFiles: what the command prints and what grpcurl prints of the same
// files have the same digest.
func TestListOfFiles(t *testing.T) {
	lines := `{"index":0,"path":"d","type":"directory","outcome":"merged","size":0,"digest":""}
{"index":1,"path":"d/a","published":"d/a-1","type":"file","outcome":"renamed","size":3,"digest":"sha256:` + "0101010101010101010101010101010101010101010101010101010101010101" + `","reason":"x"}
`
	sum := make([]byte, 32)
	for i := range sum {
		sum[i] = 1
	}
	var pages []byte
	for _, m := range []*pb.ListTransferFilesResponse{
		{NextPageToken: "7", Files: []*pb.FileReceipt{{Path: "d", Type: pb.EntryType_ENTRY_TYPE_DIRECTORY, Outcome: pb.Outcome_OUTCOME_MERGED}}},
		{Files: []*pb.FileReceipt{{
			Index: 1, Path: "d/a", Published: "d/a-1", Type: pb.EntryType_ENTRY_TYPE_FILE, Outcome: pb.Outcome_OUTCOME_RENAMED, Size: 3,
			Digest: &pb.Digest{Algorithm: pb.Algorithm_ALGORITHM_SHA256, Sum: sum},
		}}},
		{},
	} {
		text, err := protojson.MarshalOptions{Multiline: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(append(pages, text...), '\n')
	}
	var a, b transfer.FilesDigest
	if err := eachFile([]byte(lines), a.Add); err != nil {
		t.Fatal(err)
	}
	if err := eachFile(pages, b.Add); err != nil {
		t.Fatal(err)
	}
	if a.Files() != 2 || b.Files() != 2 || !a.Sum().Equal(b.Sum()) {
		t.Errorf("%d files with %s, %d with %s", a.Files(), a.Sum(), b.Files(), b.Sum())
	}
	for _, text := range []string{"x", "[]", `{"path":1}`, `{"files":1}`, `{"nothing":1}`} {
		if err := eachFile([]byte(text), a.Add); transfer.KindOf(err) != transfer.Invalid {
			t.Errorf("%s: %v", text, err)
		}
	}
}
