// Package archtest holds the direction of imports between the packages of this
// module, and a test that asserts it.
//
// The table in imports.go is the rule; ".golangci.yml" has the same rule for
// depguard, which points at the line that breaks it, and the test compares the
// two. A new package under pkg/ has to be entered in both.
//
// Why both: depguard reads one import at a time and one file pattern at a
// time, so a package that nobody listed would be free. The test asks `go list`
// for every package there is.
//
// Test files and conformance suites (packages whose name ends in "test", such
// as pkg/store/storetest) may import what they need to; only tests may import
// a conformance suite.
package archtest
