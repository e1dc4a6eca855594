/* One lock of etcdlock, up to three sessions that want it, one etcd.
 *
 * A request is three steps: it is sent, it takes effect in etcd, the answer comes. Between
 * any two steps anything else can happen, and time can pass. README.md goes through this
 * file part by part.
 *
 * A rule of the library is taken out by a macro, as in spin -a -DNO_DEADLINE lock.pml.
 */

#ifndef SESSIONS
#define SESSIONS 3
#endif
#ifndef ROUNDS
#define ROUNDS 1     /* how often a session locks */
#endif
#ifndef FAULTS
#define FAULTS 1     /* how many things go wrong, of those that are counted */
#endif
#ifndef TTL
#define TTL 0        /* in ticks; 0: no time passes, and no lease expires */
#endif
#ifndef RENEWALS
#define RENEWALS 1   /* how many a session sends; then it is silent */
#endif
#ifndef HANDOVERS
#define HANDOVERS 0  /* how often a session hands over in memory */
#endif

#define N 3          /* room for sessions */
#define each(k) k : 0 .. SESSIONS - 1

/* ---- etcd ---- */

byte rev = 1;        /* the revision of the store */
byte key[N];         /* the CreateRevision of a session's key; 0: there is none */
bool alive[N];       /* etcd knows the session's lease */
byte left[N];        /* ticks until etcd may let it expire */

#define isOlder(k, p)  (key[k] != 0 && key[k] < p)
#define anyOlder(p)    (isOlder(0, p) || isOlder(1, p) || isOlder(2, p))
#define isOther(k, i)  (k != i && key[k] != 0)
#define anyOther(i)    (isOther(0, i) || isOther(1, i) || isOther(2, i))
#define stands(p)      (p != 0 && (key[0] == p || key[1] == p || key[2] == p))

inline writeKey(i) { rev++; key[i] = rev }
inline deleteKey(i) { rev++; key[i] = 0 }

/* ---- the network ---- */

byte faults = FAULTS;

/* Requests that were asked a second time, and whose first copy may still arrive. */
bool lateEnter[N];
byte lateLeave[N];   /* which CreateRevision it is meant for; 0: there is none */

mtype = { None, Sent, Extended, Refused };
mtype renewal[N] = None;
byte age[N];         /* ticks since it was sent */

/* ---- a session ---- */

mtype = { Idle, Asked, Entered, Waiting, Looked, Held, Kept, Leaving, Left, Over, Done };
mtype state[N] = Done;

byte rounds[N];
byte renewals[N];
byte handovers[N];
byte valid[N];       /* ticks until the local deadline */
byte place[N];       /* the CreateRevision that it knows its key by */
bool first[N];       /* nobody older was there when the key was written */
byte ahead[N];       /* the CreateRevision of the one next ahead, who is watched */
bool deaf[N];        /* what happens to that one is not told */
bool unsure[N];      /* a request to enter may take effect late */

/* What a look at etcd has found, at one revision. */
bool ownStood[N];
byte olderStood[N];  /* the youngest older one; 0: nobody */
byte seenAt[N];
bool heardGone[N];   /* of another watcher, with TWO_WATCHERS */

/* ---- what must be so at every grant ---- */

byte lastToken, lastPlace;
bool two_holders, token_not_growing, out_of_order;
byte k = SESSIONS;    /* of the loops inside of one step, which leave it at that */

inline exclusive(i) {
	for (each(k)) {
		if
		:: k != i && state[k] == Held -> two_holders = true
		:: else
		fi
	}
	assert(!two_holders)
}

/* Granted by etcd. */
inline grant(i, token) {
	state[i] = Held;
	printf("session %d holds, token %d\n", i, token);
	exclusive(i);
#ifndef EXCLUSION_ONLY
	token_not_growing = token <= lastToken;
	assert(!token_not_growing);
	out_of_order = place[i] <= lastPlace;
	assert(!out_of_order);
#endif
	lastToken = token;
	lastPlace = place[i]
}

/* Handed from one goroutine of a session to the next, or a kept key locked again. */
inline grantInMemory(i) {
	state[i] = Held;
	printf("session %d holds again, in memory\n", i);
	exclusive(i)
}

inline forget(i) { ownStood[i] = false; olderStood[i] = 0; seenAt[i] = 0 }

/* The session knows that its lease is over, and with it all that it holds. */
inline lose(i) {
	if
#ifdef BLIND_HANDOVER
	:: state[i] == Held && handovers[i] > 0 -> handovers[i]--; grantInMemory(i)
	:: state[i] != Done && !(state[i] == Held && handovers[i] > 0) ->
#else
	:: state[i] != Done ->
#endif
		/* What is under way may still arrive. */
		lateEnter[i] = lateEnter[i] || state[i] == Asked;
		lateLeave[i] = (state[i] == Leaving && lateLeave[i] == 0 -> place[i] : lateLeave[i]);
		state[i] = Over;
		place[i] = 0; ahead[i] = 0; first[i] = false; deaf[i] = false; heardGone[i] = false; valid[i] = 0;
		renewal[i] = None; age[i] = 0; renewals[i] = 0; rounds[i] = 0; forget(i);
		printf("session %d knows that its lease is over\n", i)
	:: else
	fi
}

/* A round has ended. */
inline home(i) {
	place[i] = 0; first[i] = false; ahead[i] = 0; deaf[i] = false;
	heardGone[i] = false;
	forget(i);
	rounds[i]--;
	state[i] = Idle
}

/* One read at one revision, or what one watch has told up to one. */
inline look(i) {
	seenAt[i] = rev;
#ifdef TWO_WATCHERS
	ownStood[i] = !heardGone[i];
#else
	ownStood[i] = key[i] == place[i];
#endif
	olderStood[i] = 0;
	for (each(k)) {
		if
		:: isOlder(k, place[i]) && key[k] > olderStood[i] -> olderStood[i] = key[k]
		:: else
		fi
	}
}

#define through(k) (state[k] == Done || state[k] == Over)

/* When there is something to look at. */
#ifdef VIEW
#define news(i) (!anyOlder(place[i]) && !deaf[i])  /* the whole queue is watched */
#else
#define news(i) (!stands(ahead[i]) && !deaf[i])    /* the one next ahead is watched */
#endif

#ifdef NO_REREAD
#define again(i) false
#else
#define again(i) (deaf[i] && !anyOlder(place[i]))  /* every ten seconds, told or not */
#endif

#if defined(NO_OWN_KEY_CHECK) || defined(NO_RECHECK)
#define ownGone(i) false
#else
#define ownGone(i) (key[i] != place[i])
#endif

proctype Session(byte i) {
	do
	/* Enter: one transaction, asked again until it is answered. */
	:: d_step { state[i] == Idle && rounds[i] > 0 ->
		state[i] = Asked
	   }
	:: d_step { state[i] == Asked && alive[i] && key[i] == 0 ->
		first[i] = !anyOther(i);
		writeKey(i);
		place[i] = rev;
		look(i); ahead[i] = olderStood[i]; forget(i);
		state[i] = Entered;
		printf("etcd %d: session %d enters\n", rev, i)
	   }
	:: d_step { state[i] == Asked && alive[i] && key[i] != 0 ->  /* an earlier try of ours */
		first[i] = false;
		place[i] = key[i];
		look(i); ahead[i] = olderStood[i]; forget(i);
		state[i] = Entered;
		printf("etcd %d: session %d finds its key of %d\n", rev, i, place[i])
	   }
	:: d_step { state[i] == Asked && !alive[i] ->
		lose(i)
	   }
	:: d_step { state[i] == Asked && faults > 0 && !lateEnter[i] ->
		faults--;
		lateEnter[i] = true;
#ifndef FORGETS_ENTER
		unsure[i] = true;
#endif
		printf("session %d asks to enter once more\n", i)
	   }
	:: d_step { state[i] == Entered && faults > 0 ->
		faults--;
		state[i] = Asked;
		printf("the answer to session %d is lost\n", i)
	   }
	:: d_step { state[i] == Entered && faults > 0 ->
		faults--;
#ifdef FORGETS_ENTER
		home(i);
#else
		state[i] = Leaving;
#endif
		printf("the caller of session %d gives up\n", i)
	   }
	:: d_step { state[i] == Entered ->
		if
		:: first[i] -> first[i] = false; grant(i, place[i])
		:: else -> state[i] = Waiting
		fi
	   }

	/* Wait, and be granted by what is found at one revision. */
#ifdef NO_RECHECK
	:: d_step { state[i] == Waiting && !stands(ahead[i]) ->
		grant(i, rev)
	   }
#else
	:: d_step { state[i] == Waiting && (news(i) || again(i) || ownGone(i)) ->
		look(i);
		state[i] = Looked
	   }
#endif
	:: d_step { state[i] == Waiting && faults > 0 && !deaf[i] && !news(i) ->
		faults--;
		deaf[i] = true;
		printf("session %d will not be told of a deletion\n", i)
	   }
#ifdef TWO_WATCHERS
	:: d_step { state[i] == Waiting && !heardGone[i] && key[i] != place[i] ->
		heardGone[i] = true
	   }
#endif
#ifndef NO_OWN_KEY_CHECK
	:: d_step { state[i] == Looked && !ownStood[i] ->
		printf("session %d has lost its place\n", i);
		home(i)
	   }
	:: d_step { state[i] == Looked && ownStood[i] ->
#else
	:: d_step { state[i] == Looked ->
#endif
		if
		:: olderStood[i] != 0 -> ahead[i] = olderStood[i]; state[i] = Waiting
#ifdef TOKEN_BY_CREATION
		:: olderStood[i] == 0 && i != SESSIONS - 1 -> grant(i, place[i])
		:: olderStood[i] == 0 && i == SESSIONS - 1 -> grant(i, seenAt[i])  /* one with etcd's library */
#else
		:: else -> grant(i, seenAt[i])
#endif
		fi;
		forget(i)
	   }

	/* Hold, hand over in memory, keep. */
	:: d_step { state[i] == Held && handovers[i] > 0 ->
		handovers[i]--;
		grantInMemory(i)
	   }
#ifdef RETENTION
	:: d_step { state[i] == Held ->
		state[i] = Kept;
		printf("session %d keeps its key\n", i)
	   }
	:: d_step { state[i] == Kept && rounds[i] > 1 ->
		rounds[i]--;
		grantInMemory(i)
	   }
#ifndef NEVER_GIVES_UP
	:: d_step { state[i] == Kept && anyOther(i) ->
		state[i] = Leaving
	   }
#endif
	:: d_step { state[i] == Kept && !anyOther(i) && through((i+1)%N) && through((i+2)%N) ->
		state[i] = Done  /* nobody wants it any more */
	   }
#endif
	:: d_step { (state[i] == Held || state[i] == Kept) && key[i] != place[i] ->
		lose(i)  /* its own key is watched */
	   }

	/* Leave: a guarded delete, asked again until it is answered. */
	:: d_step { state[i] == Held ->
		state[i] = Leaving;
		printf("session %d unlocks\n", i)
	   }
	:: d_step { state[i] == Leaving ->
		if
		:: key[i] != 0 && key[i] == place[i] -> deleteKey(i)
		:: else
		fi;
		state[i] = Left;
		printf("etcd %d: session %d leaves\n", rev, i)
	   }
	:: d_step { state[i] == Leaving && faults > 0 && lateLeave[i] == 0 ->
		faults--;
#ifdef LEAVES_ONCE
		home(i);
#else
		lateLeave[i] = place[i];
#endif
		printf("session %d has no answer to its leaving\n", i)
	   }
	:: d_step { state[i] == Left ->
		home(i)
	   }

	/* A late effect of an unanswered request is waited for, and taken back. */
	:: d_step { state[i] == Idle && unsure[i] && !lateEnter[i] ->
		unsure[i] = false;
		if
		:: key[i] != 0 -> deleteKey(i)
		:: else
		fi
	   }
	:: d_step { state[i] == Idle && rounds[i] == 0 && !unsure[i] ->
		state[i] = Done
	   }

	/* The lease is renewed beside all that. */
#if TTL > 0
	:: d_step { renewal[i] == None && renewals[i] > 0 ->
		renewals[i]--;
		renewal[i] = Sent;
		printf("session %d sends a renewal\n", i)
	   }
	:: d_step { renewal[i] == Sent && age[i] < TTL ->
		if
		:: alive[i] -> left[i] = TTL; renewal[i] = Extended
		:: else -> renewal[i] = Refused
		fi;
		printf("etcd: the renewal of session %d arrives\n", i)
	   }
	:: d_step { renewal[i] == Extended && age[i] < TTL ->
#ifdef FROM_RECEIPT
		valid[i] = TTL;
#else
		if
		:: valid[i] < TTL - age[i] -> valid[i] = TTL - age[i]
		:: else
		fi;
#endif
		renewal[i] = None; age[i] = 0;
		printf("session %d has %d ticks left\n", i, valid[i])
	   }
	:: d_step { renewal[i] == Refused ->
		renewal[i] = None; age[i] = 0;
		lose(i)
	   }
#endif
	:: state[i] == Over || state[i] == Done -> break
	od
}

/* What else happens in etcd and on the way to it. */
proctype World(byte i) {
end:	do
	/* The first copy of a request arrives late, or never. */
	:: d_step { lateEnter[i] ->
		lateEnter[i] = false;
		if
		:: alive[i] && key[i] == 0 -> writeKey(i); printf("etcd %d: an old request of session %d enters\n", rev, i)
		:: else
		fi
	   }
	:: d_step { lateEnter[i] ->
		lateEnter[i] = false
	   }
	:: d_step { lateLeave[i] != 0 ->
		if
#ifdef UNGUARDED_DELETE
		:: key[i] != 0 -> deleteKey(i); printf("etcd %d: an old request of session %d leaves\n", rev, i)
#else
		:: key[i] == lateLeave[i] -> deleteKey(i); printf("etcd %d: an old request of session %d leaves\n", rev, i)
#endif
		:: else
		fi;
		lateLeave[i] = 0
	   }
	:: d_step { lateLeave[i] != 0 ->
		lateLeave[i] = 0
	   }

	/* An administrator deletes the key of one who waits. */
	:: d_step { faults > 0 && key[i] != 0 && anyOlder(key[i]) ->
		faults--;
		deleteKey(i);
		printf("etcd %d: the key of session %d is deleted by somebody\n", rev, i)
	   }

	/* A lease expires when its time is over, or any time later: a new raft leader
	 * gives every lease its full TTL again. One that was given up is revoked. */
#if TTL > 0
	:: d_step { alive[i] && (left[i] == 0 || state[i] == Over) ->
		alive[i] = false; left[i] = 0;
		if
		:: key[i] != 0 -> deleteKey(i)
		:: else
		fi;
		printf("etcd %d: the lease of session %d is over\n", rev, i)
	   }
#endif
	od
}

/* A tick of the clock; the deadlines are met in the same instant. */
proctype Clock() {
	byte i;
end:	do
	:: d_step { left[0] + left[1] + left[2] + valid[0] + valid[1] + valid[2] > 0 ->
		for (each(i)) {
			if
			:: left[i] > 0 -> left[i]--
			:: else
			fi;
			if
			:: renewal[i] != None && age[i] < TTL -> age[i]++
			:: else
			fi;
			if
			:: valid[i] > 0 ->
				valid[i]--;
#ifndef NO_DEADLINE
				if
				:: valid[i] == 0 -> lose(i)
				:: else
				fi
#endif
			:: else
			fi
		}
		i = 0;
		printf("tick\n")
	   }
	od
}

init {
	byte i;
	atomic {
		for (each(i)) {
			state[i] = Idle;
			rounds[i] = ROUNDS; renewals[i] = RENEWALS; handovers[i] = HANDOVERS;
			alive[i] = true; left[i] = TTL; valid[i] = TTL;
			run Session(i);
			run World(i)
		}
#if TTL > 0
		run Clock()
#endif
	}
}
