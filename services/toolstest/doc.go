// Package toolstest runs the small tools of both programs as people run them and
// holds docs/ to what they print. Its tests have the sessions; go test -update
// writes them into docs/ anew.
//
// What differs from run to run (times, sizes, ids, ports) is compared as "some
// number"; the rest is compared as it is.
package toolstest
