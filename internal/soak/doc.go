// Package soak sends many small jobs through one sender service and one receiver
// and kills both at random while it does, by SIGKILL.
//
// # What it proves
//
// Every job that was submitted ends once and well; every digest is that of the
// source; nothing is lost and nothing is published twice. A second publishing
// would show: jobs ask for a fresh name where one is taken, so the directory
// would hold a file too many.
//
// # Use
//
// Run with a directory of both programs and a scratch directory. The test of
// services/cmdtest does it with 20 jobs, tools/soakjobs with 1,000.
//
// # Why processes
//
// What is tested is what survives a process: a fake crash inside of one would
// keep its memory, its locks and its sockets.
package soak
