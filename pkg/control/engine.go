package control

import (
	"slices"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/recv"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// ReceiverView gives a receiving engine to RegisterReceiver: each caller sees it
// as its policy says.
func ReceiverView(r *recv.Receiver) func(p auth.Principal, policy auth.Policy) View {
	return func(p auth.Principal, policy auth.Policy) View {
		return r.As(recv.Caller{
			Principal: string(p), Prefix: policy.Prefix, Admin: policy.ListOthers || policy.Admin,
			MaxTransfer: policy.MaxTransfer, Rate: policy.Rate,
			Conflicts: func(c transfer.Conflict) bool { return slices.Contains(policy.Conflicts, c) },
		})
	}
}
