// Package storetest is the conformance suite of store.Store: what every
// implementation promises to the receiving engine, as tests.
//
//	func TestConformance(t *testing.T) {
//		storetest.Run(t, storetest.Harness{
//			Open:  func(cfg store.Config) (store.Store, error) { return store.Open(cfg) },
//			Crash: func(s store.Store) { s.(*store.Disk).Crash() },
//		})
//	}
//
// Every test has a directory of its own and runs in parallel with the others.
// Results are looked at through the filesystem below Config.Root, as a user
// would. The suite depends on no timing and needs no privileges; run it under an
// unprivileged user as well, because root hides errors of permissions.
package storetest
