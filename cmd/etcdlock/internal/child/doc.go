// Package child runs a command that must not outlive what it runs under.
//
// Three things see to that, each of them for when the one before cannot:
//
//	the wrapper   ends the command's process group, and waits until it is dead
//	the guard     a second process, ends the group when the wrapper is gone or has
//	              not said for too long until when the command may run
//	the kernel    ends the command with the wrapper's thread (on Linux)
//
// A process that leaves the group, as a daemon does with setsid, is followed by none of
// them.
package child

// StarterCommand is the argument with which this program is to become a command: RunStarter
// has to be called then, before anything else.
const StarterCommand = "__start"

// GuardCommand is the argument with which this program is the guard: RunGuard has to be
// called then, before anything else.
const GuardCommand = "__guard"
