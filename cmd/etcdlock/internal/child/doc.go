// Package child runs a command that must not outlive its hold.
//
// Three things end the command. Each works when the one before it cannot:
//
//	the wrapper   kills the command's process group, and waits until the group is dead
//	the guard     a second process, kills the group when the wrapper is gone, or when the
//	              wrapper has not moved the deadline in time
//	the kernel    kills the command with the wrapper's thread (on Linux)
//
// A process that leaves the group, as a daemon does with setsid, is ended by none of them.
//
// The group is a job within the job of the shell: see job.
package child

// StarterCommand is the first argument with which this program becomes a command. RunStarter
// must be called then, before anything else.
const StarterCommand = "__start"

// GuardCommand is the argument with which this program is the guard. RunGuard must be called
// then, before anything else.
const GuardCommand = "__guard"
