package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const header = "c2sp.org/tlog-proof@v1"

// A checkpoint: which tree the log that signed it says it has.
type checkpoint struct {
	origin string
	size   int64
	root   tlog.Hash
}

// The log's key must be named as the origin: a witness's signature alone does not do.
func openCheckpoint(vkey string, message []byte) (checkpoint, error) {
	var tree checkpoint
	opened, err := open(vkey, message)
	var unknown *note.UnverifiedNoteError
	if errors.As(err, &unknown) {
		return tree, fmt.Errorf("checkpoint signed by another key: %w", err)
	}
	if err != nil {
		return tree, fmt.Errorf("checkpoint: %w", err)
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 || lines[0] == "" {
		return tree, errors.New("checkpoint: origin, size and root are missing")
	}
	if lines[0] != opened.Sigs[0].Name {
		return tree, fmt.Errorf("checkpoint of %s signed by %s", lines[0], opened.Sigs[0].Name)
	}
	tree.origin = lines[0]
	if tree.size, err = number(lines[1]); err != nil {
		return tree, fmt.Errorf("checkpoint, line 2: %w", err)
	}
	if tree.root, err = tlog.ParseHash(lines[2]); err != nil {
		return tree, fmt.Errorf("checkpoint, line 3: %w", err)
	}
	return tree, nil
}

func number(text string) (int64, error) {
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil || value < 0 || strconv.FormatInt(value, 10) != text {
		return 0, fmt.Errorf("%q is no decimal number", text)
	}
	return value, nil
}

// Each line a hash; `first` is the number of the first line, for what is said about a line that is none.
func hashes(lines []string, first int) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, 0, len(lines))
	for at, line := range lines {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", first+at, err)
		}
		found = append(found, hash)
	}
	return found, nil
}

func proof(vkey, proofPath, leafPath string) error {
	text, err := os.ReadFile(proofPath)
	if err != nil {
		return err
	}
	leaf, err := os.ReadFile(leafPath)
	if err != nil {
		return err
	}
	tree, index, err := checkProof(vkey, text, leaf)
	if err != nil {
		return err
	}
	fmt.Printf("leaf %d of %s, tree of size %d\n", index, tree.origin, tree.size)
	return nil
}

// The tree that has this leaf, and where.
func checkProof(vkey string, text, leaf []byte) (tree checkpoint, index int64, err error) {
	head, message, found := bytes.Cut(text, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || lines[0] != header {
		return tree, 0, fmt.Errorf("line 1: not a %s", header)
	}
	at := 1
	if len(lines) > at && strings.HasPrefix(lines[at], "extra ") {
		at++
	}
	if len(lines) <= at || !strings.HasPrefix(lines[at], "index ") {
		return tree, 0, fmt.Errorf("line %d: no index", at+1)
	}
	index, err = number(strings.TrimPrefix(lines[at], "index "))
	if err != nil {
		return tree, 0, fmt.Errorf("line %d: %w", at+1, err)
	}
	path, err := hashes(lines[at+1:], at+2)
	if err != nil {
		return tree, 0, err
	}
	tree, err = openCheckpoint(vkey, message)
	if err != nil {
		return tree, 0, err
	}
	if err := tlog.CheckRecord(path, tree.size, tree.root, index, tlog.RecordHash(leaf)); err != nil {
		return tree, 0, fmt.Errorf("proof for another tree or another leaf: %w", err)
	}
	return tree, index, nil
}

func consistency(vkey, oldPath, newPath, proofPath string) error {
	trees := make([]checkpoint, 0, 2)
	for _, path := range []string{oldPath, newPath} {
		message, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		tree, err := openCheckpoint(vkey, message)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		trees = append(trees, tree)
	}
	text, err := os.ReadFile(proofPath)
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	path, err := hashes(lines[:len(lines)-1], 1)
	if err != nil {
		return err
	}
	old, now := trees[0], trees[1]
	if old.origin != now.origin {
		return fmt.Errorf("%s and %s are two logs", old.origin, now.origin)
	}
	if err := tlog.CheckTree(path, now.size, now.root, old.size, old.root); err != nil {
		return fmt.Errorf("the tree of size %d is not the beginning of that of size %d, or the proof is for others: %w", old.size, now.size, err)
	}
	fmt.Printf("%s: the tree of size %d is the beginning of that of size %d\n", old.origin, old.size, now.size)
	return nil
}
