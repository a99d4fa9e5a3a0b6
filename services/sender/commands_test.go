package main

import (
	"io"
	"reflect"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/e27efefb/sluice/services/internal/cli"
	"github.com/e27efefb/sluice/services/internal/reference"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestVariables(t *testing.T) { reference.CheckVariables(t, &grammar{}, "sender") }

// TestVariablesOfServe: what a container sets for serve leaves the filters of
// other commands alone.
func TestVariablesOfServe(t *testing.T) {
	for v, value := range map[string]string{
		"SLUICE_STATE": "/var/lib/sluice", "SLUICE_RECEIVER": "a=files.example:7400,b=other.example:7400", "SLUICE_TIMEOUT": "1s", "SLUICE_LIMIT": "1",
		"SLUICE_TLS_CERT": "/secrets/server.pem", "SLUICE_TLS_KEY": "/secrets/server-key.pem", "SLUICE_NO_TLS": "true", "SLUICE_JSON": "true",
		"SLUICE_TLS_CA": "/secrets/ca.pem", "SLUICE_CLIENT_CERT": "/me.pem",
	} {
		t.Setenv(v, value)
	}
	var g grammar
	if _, _, err := cli.Parse(&g, "sender", "", []string{"jobs", "list"}, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	want := jobsList{Limit: 50, apiFlags: apiFlags{At: "127.0.0.1:7410", ConnectFlags: cli.ConnectFlags{TLSCA: "/secrets/ca.pem", TLSCert: "/me.pem"}}}
	if got := g.Jobs.List; !reflect.DeepEqual(got, want) {
		t.Errorf("jobs list became %+v, want %+v", got, want)
	}
	g = grammar{}
	if _, _, err := cli.Parse(&g, "sender", "", []string{"serve"}, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	if c := g.Serve.Config; c.State != "/var/lib/sluice" || len(c.Receiver) != 2 || c.Timeout != time.Second || c.TLSCert != "/secrets/server.pem" {
		t.Errorf("serve has %+v", c)
	}
}

func TestCommandsDocument(t *testing.T) { reference.Check(t, &grammar{}, "sender") }

func TestHelpFits(t *testing.T) {
	reference.CheckHelp(t, func() any { return &grammar{} }, "sender", description)
}
