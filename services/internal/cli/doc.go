// Package cli is what the commands of both services share: exit codes, how an
// error is shown to a person and to a program, sizes and rates as flags, the
// configuration file and how a command reaches a receiver.
//
// # Why a package of its own
//
// The two binaries must answer alike: a pipeline that learned that exit code 3
// means "refused" from one of them relies on it with the other.
package cli
