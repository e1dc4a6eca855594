/* Two locks of etcdlock, X and Y, and up to three sessions that lock one of them or, with
 * LockAll, both. The keys of a lock that was locked alone may be kept after Unlock.
 *
 * The question is whether all of them get their turn: Spin reports a state in which
 * somebody waits and nothing can happen any more. No time passes here, and every request
 * is answered at once; lock.pml is about that.
 *
 * A rule of the library is taken out by a macro, as in spin -a -DBUILDS_ON_KEPT lockall.pml.
 */

#ifndef SESSIONS
#define SESSIONS 3
#endif
#ifndef ROUNDS
#define ROUNDS 2     /* how often a session locks */
#endif

#define N 3          /* room for sessions; session i has the keys i, and i + N for LockAll */
#define X 0
#define Y 1

/* ---- etcd: in each of two queues two keys for each session ---- */

byte rev = 1;
typedef Queue { byte key[6] }  /* CreateRevisions; 0: there is none */
Queue queue[2];

#define isOlder(n, k, i)  (k != i && queue[n].key[k] != 0 && queue[n].key[k] < queue[n].key[i])
#define anyOlder(n, i)    (isOlder(n, 0, i) || isOlder(n, 1, i) || isOlder(n, 2, i) || isOlder(n, 3, i) || isOlder(n, 4, i) || isOlder(n, 5, i))
#define isOther(n, k, i)  (k != i && queue[n].key[k] != 0)
#define anyOther(n, i)    (isOther(n, 0, i) || isOther(n, 1, i) || isOther(n, 2, i) || isOther(n, 3, i) || isOther(n, 4, i) || isOther(n, 5, i))

/* ---- the sessions ---- */

typedef Kept { bool by[N] }    /* the key stands, and nobody holds by it */
Kept kept[2];

typedef Holding { bool by[N] }
Holding holds[2];
bool two_holders;

inline hold(n, i) {
	holds[n].by[i] = true;
	two_holders = holds[n].by[0] + holds[n].by[1] + holds[n].by[2] > 1;
	assert(!two_holders)
}

/* A step with one request, or none: each d_step. */

inline enter(n, i) { rev++; queue[n].key[i] = rev }

inline leave(n, i) {
	rev++;
	queue[n].key[i] = 0; holds[n].by[i % N] = false; kept[n].by[i % N] = kept[n].by[i % N] && i >= N
}

/* Mutex.Lock and Unlock. */
inline lockOne(n, i) {
	if
	:: d_step { kept[n].by[i] -> kept[n].by[i] = false; hold(n, i); printf("session %d takes the key that it kept in %d\n", i, n) }
	:: d_step { !kept[n].by[i] -> enter(n, i); printf("%d: session %d enters %d\n", rev, i, n) }
	   d_step { !anyOlder(n, i) -> hold(n, i); printf("session %d holds %d\n", i, n) }
	fi;
	if
	:: d_step { true -> leave(n, i); printf("%d: session %d leaves %d\n", rev, i, n) }
	:: d_step { true -> holds[n].by[i] = false; kept[n].by[i] = true; printf("session %d keeps its key in %d\n", i, n) }
	fi
}

/* The key that LockAll has in a queue: never one that the session keeps. That is given up
 * like for anybody else who lines up. */
inline choose(n, i, slot) {
	if
#ifdef BUILDS_ON_KEPT
	:: d_step { kept[n].by[i] -> kept[n].by[i] = false; slot = i; printf("session %d builds on the key that it kept in %d\n", i, n) }
	:: d_step { !kept[n].by[i] -> slot = i + N }
#else
	:: d_step { true -> slot = i + N }
#endif
	fi
}

/* LockAll and UnlockAll. */
inline lockAll(a, b, i) {
	choose(a, i, inA);
	choose(b, i, inB);
#ifdef ONE_AFTER_THE_OTHER
	d_step { queue[a].key[inA] == 0 -> enter(a, inA); printf("%d: session %d enters %d\n", rev, i, a) }
	d_step { !anyOlder(a, inA) -> hold(a, i) }
	d_step { queue[b].key[inB] == 0 -> enter(b, inB); printf("%d: session %d enters %d\n", rev, i, b) }
	d_step { !anyOlder(b, inB) -> hold(b, i) }
#else
#ifdef TWO_TRANSACTIONS
	d_step { queue[a].key[inA] == 0 -> enter(a, inA); printf("%d: session %d enters %d\n", rev, i, a) }
	d_step { queue[b].key[inB] == 0 -> enter(b, inB); printf("%d: session %d enters %d\n", rev, i, b) }
#else
	d_step {
		/* Both at one revision; one that is there already stays where it is. */
		rev++;
		if
		:: queue[a].key[inA] == 0 -> queue[a].key[inA] = rev
		:: else
		fi;
		if
		:: queue[b].key[inB] == 0 -> queue[b].key[inB] = rev
		:: else
		fi;
		printf("%d: session %d enters both\n", rev, i)
	}
#endif
	d_step { !anyOlder(a, inA) && !anyOlder(b, inB) -> hold(a, i); hold(b, i) }
#endif
	printf("session %d holds both\n", i);
	d_step { true -> leave(a, inA); rev--; leave(b, inB); inA = 0; inB = 0; printf("%d: session %d leaves both\n", rev, i) }
}

proctype Session(byte i) {
	byte rounds = ROUNDS;
	byte inA, inB;       /* of LockAll: the keys that it has */
	do
	:: rounds > 0 -> rounds--; lockOne(X, i)
	:: rounds > 0 -> rounds--; lockOne(Y, i)
	:: rounds > 0 -> rounds--; lockAll(X, Y, i)
	:: rounds > 0 -> rounds--; lockAll(Y, X, i)
	:: rounds == 0 -> break
	od
}

/* What watches over the keys that a session keeps: they are given up for whoever lines up. */
proctype Keeper(byte i) {
end:	do
#ifdef NEVER_GIVES_UP
	:: false
#else
	:: d_step { kept[X].by[i] && anyOther(X, i) -> leave(X, i); printf("%d: session %d gives up its key in X\n", rev, i) }
	:: d_step { kept[Y].by[i] && anyOther(Y, i) -> leave(Y, i); printf("%d: session %d gives up its key in Y\n", rev, i) }
#endif
	od
}

init {
	byte i;
	atomic {
		for (i : 0 .. SESSIONS - 1) {
			run Session(i);
			run Keeper(i)
		}
	}
}
