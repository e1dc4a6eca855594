package etcdlocktest

import (
	"slices"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// fleet are the processes of a test, and the leases that they use.
type fleet struct {
	mu        sync.Mutex
	processes []*Process                    // in the order of their making, without those that were killed
	users     map[clientv3.LeaseID]*Process // the process that wrote or renewed by a lease last
}

// process returns the process of that name, and adds a new one if there is none.
func (f *fleet) process(name string, newProcess func() *Process) (p *Process, found bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.named(name); p != nil {
		return p, true
	}
	p = newProcess()
	f.processes = append(f.processes, p)
	return p, false
}

// find returns the process of that name, nil if there is none.
func (f *fleet) find(name string) *Process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.named(name)
}

// named is find. Called with mu held.
func (f *fleet) named(name string) *Process {
	for _, p := range f.processes {
		if p.name == name {
			return p
		}
	}
	return nil
}

// each calls a function with each process.
func (f *fleet) each(do func(*Process)) {
	f.mu.Lock()
	all := slices.Clone(f.processes)
	f.mu.Unlock()
	for _, p := range all {
		do(p)
	}
}

// remove forgets a process that was killed. Its leases stay its own.
func (f *fleet) remove(p *Process) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.processes = slices.DeleteFunc(f.processes, func(o *Process) bool { return o == p })
}

// uses notes that a process writes or renews by a lease.
func (f *fleet) uses(p *Process, id clientv3.LeaseID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users[id] = p
}

// user is the process that used a lease last.
func (f *fleet) user(id clientv3.LeaseID) *Process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.users[id]
}

// leases are those that a process used last, in the order of their IDs.
func (f *fleet) leases(of *Process) (all []clientv3.LeaseID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, user := range f.users {
		if user == of {
			all = append(all, id)
		}
	}
	slices.Sort(all)
	return all
}
