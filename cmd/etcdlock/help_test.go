package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// commandsOf returns a command and all commands below it that are written here. Cobra adds help and
// completion.
func commandsOf(root *cobra.Command) (all []*cobra.Command) {
	all = append(all, root)
	for _, sub := range root.Commands() {
		if name := sub.Name(); name != "help" && name != "completion" {
			all = append(all, commandsOf(sub)...)
		}
	}
	return all
}

// word is an argument in a shell script, as far as the examples need one.
var word = regexp.MustCompile(`\$\([^)]*\)|"[^"]*"|'[^']*'|\S`)

// shellWords splits a script into commands, and each into words.
func shellWords(script string) (commands [][]string) {
	for line := range strings.Lines(script) {
		var words []string
		for _, field := range splitOutsideQuotes(strings.TrimSpace(line)) {
			switch field {
			case "&", "||", "&&", "|":
				commands, words = append(commands, words), nil
			default:
				words = append(words, strings.Trim(field, `"'`))
			}
		}
		if len(words) > 0 {
			commands = append(commands, words)
		}
	}
	return commands
}

// splitOutsideQuotes splits a line at its spaces.
func splitOutsideQuotes(line string) (fields []string) {
	end := -1
	for _, at := range word.FindAllStringIndex(line, -1) {
		if at[0] == end {
			fields[len(fields)-1] += line[at[0]:at[1]]
		} else {
			fields = append(fields, line[at[0]:at[1]])
		}
		end = at[1]
	}
	return fields
}

// Each help has an example of its own command. The flag parser and the checks of the command accept
// all examples.
func TestEachHelpHasAnExampleThatParses(t *testing.T) {
	for _, documented := range commandsOf(newRoot()) {
		t.Run(documented.CommandPath(), func(t *testing.T) {
			own := 0
			for _, args := range shellWords(documented.Example) {
				require.Equal(t, "etcdlock", args[0], "%q", args)
				cmd, rest, err := newRoot().Find(args[1:])
				require.NoError(t, err)
				require.NoError(t, cmd.ParseFlags(rest), "%q", args)
				require.NoError(t, cmd.ValidateArgs(cmd.Flags().Args()), "%q", args)
				require.NoError(t, cmd.ValidateFlagGroups(), "%q", args)
				if cmd.Name() == "lock" {
					_, _, err := split(cmd, cmd.Flags().Args())
					require.NoError(t, err, "%q", args)
				}
				if cmd.Name() == documented.Name() || !documented.HasParent() {
					own++
				}
			}
			require.Positive(t, own, "the help has no example of its command")

			var help bytes.Buffer
			root := newRoot()
			root.SetOut(&help)
			root.SetArgs(append(strings.Fields(documented.CommandPath())[1:], "--help"))
			require.NoError(t, root.Execute())
			require.Contains(t, help.String(), documented.Example)
			for line := range strings.Lines(documented.Long + "\n" + documented.Example) {
				require.LessOrEqual(t, len([]rune(strings.TrimSuffix(line, "\n"))), 100, "%s", line)
			}
		})
	}
}

// Of the fault that this finds: an example with a flag that its command does not have.
func TestAnExampleWithAnUnknownFlagIsFound(t *testing.T) {
	args := shellWords(`  etcdlock elect a --id "$(hostname):80" --health 'curl -f x' --try -- ./a || etcdlock ls`)
	require.Equal(t, [][]string{
		{"etcdlock", "elect", "a", "--id", "$(hostname):80", "--health", "curl -f x", "--try", "--", "./a"},
		{"etcdlock", "ls"},
	}, args)
	cmd, rest, err := newRoot().Find(args[0][1:])
	require.NoError(t, err)
	require.Error(t, cmd.ParseFlags(rest))
}

// A flag of a command with the name of a connection flag would hide it, and etcdctl's flags work in
// every command.
func TestNoFlagHidesAConnectionFlag(t *testing.T) {
	root := newRoot()
	for _, cmd := range commandsOf(root)[1:] {
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			require.Nil(t, root.PersistentFlags().Lookup(f.Name), "etcdlock %s --%s", cmd.Name(), f.Name)
		})
	}
}
