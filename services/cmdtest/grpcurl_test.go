package cmdtest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// TestReadmeCalls makes the calls that the README shows with grpcurl, as grpcurl
// makes them: it asks the service what its messages are (reflection), reads the
// JSON of the README by that, and knows none of the generated code.
func TestReadmeCalls(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tmp, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tmp, "build.tar"), []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	recv, err := start(os.Environ(), tmp, "receiver", localArgs(filepath.Join(tmp, "inbox"))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(recv.kill)
	send, err := start(os.Environ(), tmp, "sender", append(senderArgs(filepath.Join(tmp, "jobs")), "--source-root", tmp, "--receiver", "archive="+recv.where["control"]+"/off")...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(send.kill)
	conn, err := grpc.NewClient(send.where["control"], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	id, calls := "", readmeCalls(t)
	for _, c := range calls {
		body := strings.NewReplacer("/outbox", tmp, `'$ID'`, id).Replace(c.body)
		answer, err := callByReflection(ctx, conn, c.method, body)
		if err != nil {
			t.Fatalf("%s %s: %v", c.method, body, err)
		}
		var got struct {
			Job  struct{ ID, State string }
			Jobs []struct{ ID, State string }
		}
		if err := json.Unmarshal(answer, &got); err != nil {
			t.Fatal(err)
		}
		switch _, name, _ := strings.Cut(c.method, "/"); name {
		case "SubmitTransfer":
			id = got.Job.ID
		case "WaitTransfer":
			if got.Job.ID != id || got.Job.State != "JOB_STATE_SUCCEEDED" {
				t.Errorf("wait: %s", answer)
			}
		case "ListTransfers":
			if len(got.Jobs) != 1 || got.Jobs[0].ID != id {
				t.Errorf("list: %s", answer)
			}
		default:
			t.Errorf("the README calls %s, and this test knows nothing of it", name)
		}
	}
	if len(calls) != 3 {
		t.Errorf("the README has %d calls, want 3", len(calls))
	}
	if err := sameFiles(filepath.Join(tmp, "build.tar"), filepath.Join(tmp, "inbox", "build.tar")); err != nil {
		t.Error(err)
	}
}

type readmeCall struct{ body, method string }

func readmeCalls(t *testing.T) (calls []readmeCall) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^grpcurl -plaintext -d '(.*)' \S+ (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		calls = append(calls, readmeCall{m[1], m[2]})
	}
	return calls
}

// callByReflection makes a unary call with JSON, of which only the server knows
// the types.
func callByReflection(ctx context.Context, conn *grpc.ClientConn, method, body string) ([]byte, error) {
	service, name, _ := strings.Cut(method, "/")
	files, err := reflectFiles(ctx, conn, service)
	if err != nil {
		return nil, err
	}
	d, err := files.FindDescriptorByName(protoreflect.FullName(service + "." + name))
	if err != nil {
		return nil, err
	}
	m, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is no method", method)
	}
	in, out := dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Output())
	if err := protojson.Unmarshal([]byte(body), in); err != nil {
		return nil, err
	}
	if err := conn.Invoke(ctx, "/"+method, in, out); err != nil {
		return nil, err
	}
	return protojson.Marshal(out)
}

// reflectFiles fetches the file that defines a symbol, and all that it needs.
func reflectFiles(ctx context.Context, conn *grpc.ClientConn, symbol string) (*protoregistry.Files, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, err
	}
	set, seen := &descriptorpb.FileDescriptorSet{}, map[string]bool{}
	requests := []*reflectionpb.ServerReflectionRequest{{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol}}}
	for len(requests) > 0 {
		if err := stream.Send(requests[0]); err != nil {
			return nil, err
		}
		requests = requests[1:]
		answer, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if e := answer.GetErrorResponse(); e != nil {
			return nil, fmt.Errorf("reflection: %s", e.GetErrorMessage())
		}
		for _, raw := range answer.GetFileDescriptorResponse().GetFileDescriptorProto() {
			f := &descriptorpb.FileDescriptorProto{}
			if err := proto.Unmarshal(raw, f); err != nil {
				return nil, err
			}
			if seen[f.GetName()] {
				continue
			}
			seen[f.GetName()] = true
			set.File = append(set.File, f)
			for _, dep := range f.GetDependency() {
				if !seen[dep] {
					requests = append(requests, &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileByFilename{FileByFilename: dep}})
				}
			}
		}
	}
	return protodesc.NewFiles(set)
}
