package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/tlog"
)

// One question of a batch, a line of JSON: is `leaf` at `index` of the tree, or is the tree of size `old` its beginning?
// Hashes are in base64.
type question struct {
	Size    int64    `json:"size"`
	Root    string   `json:"root"`
	Proof   []string `json:"proof"`
	Index   int64    `json:"index"`
	Leaf    string   `json:"leaf"`
	Old     int64    `json:"old"`
	OldRoot string   `json:"old_root"`
}

// batch answers each line of standard input with a line: ok, or why not.
func batch() error {
	lines := bufio.NewScanner(os.Stdin)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			return err
		}
		if err := asked.check(); err != nil {
			fmt.Fprintln(out, err)
		} else {
			fmt.Fprintln(out, "ok")
		}
	}
	return lines.Err()
}

func (asked question) check() error {
	root, err := tlog.ParseHash(asked.Root)
	if err != nil {
		return err
	}
	path, err := hashes(asked.Proof, 1)
	if err != nil {
		return err
	}
	if asked.OldRoot != "" {
		before, err := tlog.ParseHash(asked.OldRoot)
		if err != nil {
			return err
		}
		return tlog.CheckTree(path, asked.Size, root, asked.Old, before)
	}
	leaf, err := tlog.ParseHash(asked.Leaf)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(path, asked.Size, root, asked.Index, leaf)
}
