package main

const inCommand = "cmd/etcdlock"

var mutationsOfTheCommand = []mutation{
	{
		takesOut: "etcdlock stops with its job when the command stops",
		edits:    []edit{{"cmd/etcdlock/internal/child/process.go", "p.job.commandStopped(change.stopped)", ""}},
		in:       inCommand, tests: []string{"TestAJobStopsAndContinuesAsTheShellAsks", "TestAStoppedJobLosesItsLockAtTheDeadline", "TestACommandReadsTheTerminal"},
	},
	{
		takesOut: "a command that was stopped is continued to heed a signal",
		edits:    []edit{{"cmd/etcdlock/internal/child/process.go", "p.kill(sig)\n\t\tp.kill(syscall.SIGCONT)", "p.kill(sig)"}},
		in:       inCommand, tests: []string{"TestWithoutATerminalACommandThatIsStoppedCanBeTerminated"},
	},
	{
		takesOut: "an interrupted command's wrapper dies of the interrupt",
		edits:    []edit{{"cmd/etcdlock/main.go", "if interrupted.Load() &&", "if false &&"}},
		in:       inCommand, tests: []string{"TestAnInterruptEndsTheLoopOfTheShell"},
	},
	{
		takesOut: "orphans are reaped",
		edits:    []edit{{"cmd/etcdlock/internal/child/reap_linux.go", "if os.Getpid() != 1 && !subreaper() {", "if true {"}},
		in:       inCommand, tests: []string{"TestOrphansAreReaped"},
	},
	{
		takesOut: "orphans are told from children that are waited for",
		edits:    []edit{{"cmd/etcdlock/internal/child/reap_linux.go", "case p.pids[int(info.pid)]:", "case false:"}},
		in:       inCommand, tests: []string{"TestOrphansAreReaped"},
	},
	{
		takesOut: "it starts itself from the file that it was started from",
		edits:    []edit{{"cmd/etcdlock/internal/child/self_linux.go", `return "/proc/self/exe", nil`, "return os.Executable()"}},
		in:       inCommand, tests: []string{"TestWhileItsFileIsReplacedItGoesOn"},
	},
	{
		takesOut: "the caller's descriptors keep their numbers",
		edits:    []edit{{"cmd/etcdlock/internal/child/descriptors.go", "if inherited(fd) {", "if false {"}},
		in:       inCommand, tests: []string{"TestTheCommandHasTheCallersDescriptorsAndNoOthers", "TestMakeSharesItsJobs"},
	},
	{
		takesOut: "a port that is in use is no mistake in the flags",
		edits:    []edit{{"cmd/etcdlock/elect.go", `return nil, fmt.Errorf("--listen: %w", err)`, `return nil, usageError{err}`}},
		in:       inCommand, tests: []string{"TestWhatMayWorkTheNextTimeIsNoUsageError"},
	},
}
