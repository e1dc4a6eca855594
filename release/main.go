// Command release makes and checks releases of all modules at one version.
//
//	release prepare v0.1.0         two commits: the one to be tagged, and the one after it
//	release verify v0.1.0          checks the commit of the tags
//	release tags v0.1.0            the tags, in the order in which the modules require each other
//	release notes v0.1.0           the section of the changelog
//	release next                   the version after the last one in the changelog
//	release proxy v0.1.0 DIR       a module proxy with the modules of the last commit
//	release image v0.1.0 DIST DIR  an OCI layout with an image of each Linux program in DIST
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := execute(ctx, os.Args[1:]); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func execute(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: release prepare|verify|tags|notes|next|proxy|image ...; see main.go")
	}
	top, err := git(ctx, ".", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	repo := strings.TrimSpace(top)
	switch fmt.Sprint(args[0], " ", len(args)-1) {
	case "prepare 1":
		if err := prepare(ctx, repo, args[1], time.Now()); err != nil {
			return err
		}
		return printNextSteps(ctx, repo, args[1])
	case "verify 1":
		return verify(ctx, repo, args[1])
	case "tags 1":
		return printTags(repo, args[1])
	case "notes 1":
		return printNotes(repo, args[1])
	case "next 0":
		return printNextVersion(repo)
	case "proxy 2":
		return writeProxy(ctx, repo, args[1], args[2])
	case "image 3":
		return writeImage(ctx, repo, args[1], args[2], args[3])
	default:
		return fmt.Errorf("unknown command, or another number of arguments: %q", args)
	}
}

// printNextSteps prints what a person does after prepare.
func printNextSteps(ctx context.Context, repo, version string) error {
	modules, err := released(repo)
	if err != nil {
		return err
	}
	commit, err := git(ctx, repo, "rev-parse", "HEAD~1")
	if err != nil {
		return err
	}
	fmt.Println("When both commits are on the main branch:")
	push := "git push --atomic origin"
	for _, m := range modules {
		fmt.Printf("  git tag --sign --message %s %s %s\n", m.tag(version), m.tag(version), strings.TrimSpace(commit))
		push += " " + m.tag(version)
	}
	fmt.Println("  " + push)
	return nil
}

func printTags(repo, version string) error {
	modules, err := released(repo)
	if err != nil {
		return err
	}
	for _, m := range modules {
		fmt.Println(m.tag(version))
	}
	return nil
}

func printNotes(repo, version string) error {
	changelog, err := os.ReadFile(filepath.Join(repo, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	fmt.Println(sectionOf(string(changelog), strings.TrimPrefix(version, "v")))
	return nil
}

func printNextVersion(repo string) error {
	changelog, err := os.ReadFile(filepath.Join(repo, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	next, err := nextVersion(string(changelog))
	fmt.Println(next)
	return err
}
