// Package lockui is a web page for operators: the locks, elections and semaphores of an etcd, their
// queues, the sessions behind them, deadlocks, and what the doctor finds. The command "etcdlock ui"
// serves it.
//
// A [Handler] follows etcd by one watch, however many viewers there are. Pages are HTML that works
// without a script, and a small script keeps them current by server-sent events.
//
// Without options a handler answers only requests from the same machine, and changes nothing in etcd.
// [WithAuth] admits users from other machines, and [WithActions] permits actions. The handler itself
// enforces both, wherever a program mounts it:
//
//	ui, err := lockui.New(client, lockui.WithPrefix("jobs/"))
//	if err != nil {
//		return err
//	}
//	defer ui.Close()
//	mux.Handle("/locks/", http.StripPrefix("/locks", ui))
//
// All links are relative, so any prefix is possible.
package lockui
