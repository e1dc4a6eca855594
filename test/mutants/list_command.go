package main

// commandMutations are about the command.
var commandMutations = []mutation{
	{
		takesOut: "etcdlock stops with its job when the command stops (P2)",
		edits: []edit{
			{"child.(*Process).run", "p.job.commandStopped(change.stopped)", ""},
		},
		tests: []string{"TestAJobStopsAndContinuesAsTheShellAsks", "TestAStoppedJobLosesItsLockAtTheDeadline", "TestACommandReadsTheTerminal"},
	},
	{
		takesOut: "a command that was stopped is continued to heed a signal (P2)",
		edits: []edit{
			{"child.(*Process).Signal", "p.kill(sig)\np.kill(syscall.SIGCONT)", "p.kill(sig)"},
		},
		tests: []string{"TestWithoutATerminalACommandThatIsStoppedCanBeTerminated"},
	},
	{
		takesOut: "a command that is ended while the hold is kept has more time than before a loss",
		edits: []edit{
			{"cmd/etcdlock.(*wake).end", "time.Now().Add(w.stop)", "time.Now().Add(w.grace)"},
		},
		tests: []string{"TestATransferWaitsForACommandThatStopsSlowly"},
	},
	{
		takesOut: "a request of etcdlock ask whose lease is lost is no lock that was lost",
		edits: []edit{
			{"cmd/etcdlock.newAsk", "return orSignal(ctx, leaseLost(err))", "return orSignal(ctx, err)"},
		},
		tests: []string{"TestARequestWhoseLeaseIsLostIsNoLossOfALock"},
	},
	{
		takesOut: "a request whose lease is lost is no lock that was lost",
		edits: []edit{
			{"cmd/etcdlock.(*switchover).run", "return orSignal(ctx, leaseLost(err))", "return orSignal(ctx, err)"},
		},
		tests: []string{"TestARequestWhoseLeaseIsLostIsNoLossOfALock"},
	},
	{
		takesOut: "a stop in the middle of a vfork is noticed (P2)",
		edits: []edit{
			{"child.(*job).begin", "go j.lookOutForVfork()", ""},
		},
		tests: []string{"TestAStopInTheMiddleOfAVforkIsNoticed"},
	},
	{
		takesOut: "the wrapper of an interrupted command dies of the interrupt",
		edits: []edit{
			{"cmd/etcdlock.main", "if interrupted.Load() &&", "if false &&"},
		},
		tests: []string{"TestAnInterruptEndsTheLoopOfTheShell"},
	},
	{
		takesOut: "tries that end without an answer are one silence of etcd (R9)",
		edits: []edit{
			{"cmd/etcdlock.(*silence).advance", "since = min(since, w.lostAt)", ""},
		},
		tests: []string{"TestTriesThatEndWithoutAnAnswerAreOneSilence"},
	},
	{
		takesOut: "an idle command notices that etcd hangs (R9)",
		edits: []edit{
			{"cmd/etcdlock.(*silence).run", "w.beat(ctx)", ""},
		},
		tests: []string{"TestACommandThatWaitsSaysOnceThatEtcdIsAwayAndOnceThatItIsBack"},
	},
	{
		takesOut: "orphans are reaped (P3)",
		edits: []edit{
			{"child.ReapOrphans", "if os.Getpid() != 1 && !subreaper() {", "if true {"},
		},
		tests: []string{"TestOrphansAreReaped"},
	},
	{
		takesOut: "orphans are told from children that are waited for (P3)",
		edits: []edit{
			{"child.(*processes).reapOthers", "case p.pids[int(info.pid)]:", "case false:"},
		},
		tests: []string{"TestOrphansAreReaped"},
	},
	{
		takesOut: "the command starts itself from the file that it was started from (P4)",
		edits: []edit{
			{"child.self", `return "/proc/self/exe", nil`, "return os.Executable()"},
		},
		tests: []string{"TestWhileItsFileIsReplacedItGoesOn"},
	},
	{
		takesOut: "the caller's descriptors keep their numbers (P5)",
		edits: []edit{
			{"child.layout", "if inherited(fd) {", "if false {"},
		},
		tests: []string{"TestTheCommandHasTheCallersDescriptorsAndNoOthers", "TestMakeSharesItsJobs"},
	},
	{
		takesOut: "a port that is in use is no mistake in the flags (P6)",
		edits: []edit{
			{"cmd/etcdlock.serveProbes", `return nil, fmt.Errorf("--listen: %w", err)`, "return nil, usageError{err}"},
		},
		tests: []string{"TestWhatMayWorkTheNextTimeIsNoUsageError"},
	},
}
