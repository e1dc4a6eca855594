package main

import "slices"

// mutations is the list, by area. Small pieces of source outlive most changes around them,
// and TestEachMutationApplies tells at once which one does not: it names the place where
// the text stands now, or the line most like it.
var mutations = slices.Concat(
	leaseMutations,
	grantMutations,
	sharedMutations,
	localMutations,
	requestMutations,
	handoffMutations,
	againMutations,
	watchMutations,
	electionMutations,
	switchoverMutations,
	commandMutations,
	fenceMutations,
	traceMutations,
)
