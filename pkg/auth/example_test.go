package auth_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// The operator makes a token and a policy; the service knows the caller by it.
func ExampleGuard() {
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer func() { _ = os.RemoveAll(dir) }()
	secret, line, err := auth.NewToken("build-farm", time.Now().Add(24*time.Hour))
	check(err)
	tokenFile, policyFile := filepath.Join(dir, "tokens"), filepath.Join(dir, "policies.json")
	check(os.WriteFile(tokenFile, []byte(line+"\n"), 0o600))
	check(os.WriteFile(policyFile, []byte(`{"principals": {"build-farm": {"prefix": "builds"}}}`), 0o600))

	tokens, err := auth.LoadTokens(tokenFile, auth.Options{})
	check(err)
	policies, err := auth.LoadPolicies(policyFile, auth.Options{})
	check(err)
	guard, err := auth.NewGuard(auth.GuardConfig{Tokens: tokens, Policies: policies})
	check(err)

	who, err := guard.Authenticate(context.Background(), "Bearer "+secret, nil)
	check(err)
	policy, err := guard.Policy(who)
	check(err)
	fmt.Println(who, "publishes below", policy.Prefix)
	err = policy.CheckTransfer(transfer.Overwrite, 1<<20)
	fmt.Println(err)
	_, err = guard.Authenticate(context.Background(), "", nil)
	fmt.Println(err)
	fmt.Println("hint:", transfer.HintOf(err))
	// Output:
	// build-farm publishes below builds
	// check policy: the conflict policy overwrite is not allowed for this principal
	// authenticate: the call carries neither a bearer token nor a client certificate that is accepted here: not authenticated
	// hint: give a token with --token-file
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
