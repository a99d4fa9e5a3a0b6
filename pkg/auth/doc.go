// Package auth tells who a caller is and what it may do, makes the TLS of both
// services, and signs receipts. It knows no protobuf and serves nothing: the
// interceptors of pkg/control call a Guard, the listeners take a *tls.Config.
//
// # Use
//
// A service calls CheckExposure with its addresses and flags before it listens.
// It loads the files that it was given (LoadTokens, LoadPolicies, LoadDenyList,
// NewServerTLS) and makes a Guard of them. An interceptor calls
// Guard.Authenticate and puts the result into the context (WithPrincipal); the
// steps of a transfer ask Guard.Policy, and ask again while work goes on, since
// the answer changes when the operator removes a principal. A client takes
// ClientTLS.Credentials and a Bearer for gRPC and ClientTLS.Config for lanes.
//
// Everything is denied unless a rule allows it: a call without credentials, a
// principal without an entry where there is a policy file, a context without a
// principal.
//
// # Files
//
// A token file has one token a line, as NewToken writes it; LoadTokens gives
// its form:
//
//	# who        what                                              until
//	build-farm   sha256:9f86d081884c7d659a2feaa0c55ad015…0f00a08   expires=2027-01-31T00:00:00Z
//
// A policy file is JSON. Every field of an entry may be left out:
//
//	{
//	  "principals": {
//	    "build-farm": {
//	      "prefix": "builds/nightly",
//	      "max_transfer_bytes": 107374182400,
//	      "rate_bytes_per_second": 125000000,
//	      "conflict": ["fail", "skip-identical"],
//	      "list_others": false,
//	      "admin": false
//	    },
//	    "operator": {"list_others": true, "admin": true}
//	  }
//	}
//
// prefix is the directory below the receiver's root that is the principal's
// own; left out, it is the root. Limits left out or 0 do not limit; units are
// octets. conflict left out allows every policy that destroys nothing: fail,
// rename and skip-identical; an empty list allows none, so nothing can be
// published. list_others and admin left out are false. The name "anonymous"
// is that of all callers under --no-auth. Without a policy file each known
// principal gets DefaultPolicy.
//
// A deny list names revoked certificates; LoadDenyList gives its form.
//
// All of them, and certificates, keys and authorities, are read again at most
// once in ReloadEvery, when they are used. Replace them by rename, as editors
// and "mv" do: a file that is rewritten in place can be read half-written, and
// half a deny list revokes half. A new content that is broken or gone leaves
// the one before in force; the log says so once, and Guard.Stale, ServerTLS.Stale
// and ClientTLS.Stale say it for as long as it lasts.
//
// # Cancellation, goroutines, limits
//
// Nothing here blocks on a network and nothing starts a goroutine. Files are
// bounded by MaxFile, a token file by MaxTokens lines, names by MaxPrincipal.
// The time of a handshake is bounded by the caller of the handshake.
//
// # Why
//
// Why plain SHA-256 for tokens, without salt or a slow hash: those protect
// secrets that people choose, which can be guessed. A token here is 256 random
// bits, and only such tokens are accepted, so there is nothing to guess: 2^255
// trials, slow or fast. A slow hash would only give callers a way to burn the
// service's processors, one call at a time.
//
// Why tokens are compared one by one, in constant time, and not looked up in a
// map: the time of a map look-up depends on what it finds. With hashes that
// leak is theoretical, but leaving it out costs about 0.2 ms at 10,000 tokens.
//
// Why files are read again whole instead of watched: the notices of inotify are
// lost on network filesystems and on the swapped links of Kubernetes volumes,
// and size and time stamps miss a change within the clock's tick. One small
// read a second costs nothing, needs no goroutine and misses nothing.
//
// Why JSON for policies: the standard library reads it, strictly, and no indent
// changes its meaning.
//
// Why a token goes before a certificate: the certificate often belongs to the
// host and the token to the one on whose behalf it calls.
//
// Why TLS 1.3 only, and no session tickets on the server: both ends are ours, so
// nothing older needs support. Connections live long here, so resumption saves
// little, and a resumed session would pass by a newer authority.
//
// Why lanes have a protocol of their own in ALPN (ProtoLane): a connection that
// was meant for a lane can never be taken for HTTP/2, nor the reverse, whoever
// redirects it (the attack known as ALPACA).
//
// Why a certificate's URI name goes first: it is what SPIFFE uses and the only
// one that nobody also uses for hosts.
//
// Why DSSE for receipts: it signs octets, not a canonical form of JSON, so a
// verifier needs no parser before it trusts; and attestation tools read it.
package auth
