package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/transparency-dev/formats/proof"
	merkle "github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// checkProofs verifies every proof file of a folder, each by both libraries.
func checkProofs(folder string, key note.Verifier) error {
	names, err := filepath.Glob(filepath.Join(folder, "*.tlog-proof"))
	if err != nil {
		return err
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := checkProof(raw, key); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(name), err)
		}
	}
	fmt.Printf("proofs: %d\n", len(names))
	return nil
}

func checkProof(raw []byte, key note.Verifier) error {
	var read proof.TLogProof
	if err := read.Unmarshal(raw); err != nil {
		return err
	}
	if !bytes.Equal(read.Marshal(), raw) {
		return errors.New("the proof is not written in its canonical form")
	}
	checkpoint, err := openCheckpoint(read.Checkpoint, key)
	if err != nil {
		return err
	}
	entry, err := entryOf(read.ExtraData)
	if err != nil {
		return err
	}
	leaf := rfc6962.DefaultHasher.HashLeaf(entry)
	var path [][]byte
	var record tlog.RecordProof
	for _, hash := range read.Hashes {
		path = append(path, hash[:])
		record = append(record, tlog.Hash(hash))
	}
	err = merkle.VerifyInclusion(rfc6962.DefaultHasher, read.Index, checkpoint.Size, leaf, path, checkpoint.Hash)
	if err != nil {
		return err
	}
	root := tlog.Hash(checkpoint.Hash)
	return tlog.CheckRecord(record, int64(checkpoint.Size), root, int64(read.Index), tlog.Hash(leaf))
}

// entryOf takes the entry out of the text that our proofs carry beside the proof itself.
func entryOf(extra []byte) ([]byte, error) {
	lines := strings.Split(string(extra), "\n")
	if len(lines) < 3 || lines[0] != "alumicatalyst/proof" {
		return nil, errors.New("the proof carries no text of ours")
	}
	encoded, found := strings.CutPrefix(lines[1], "entry ")
	if !found {
		return nil, errors.New("the proof carries no entry")
	}
	return base64.StdEncoding.Strict().DecodeString(encoded)
}

// checkGrowth verifies consistency proofs: that a tree is the beginning of a later one.
func checkGrowth(name string) error {
	raw, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var steps []struct {
		Old     uint64   `json:"old"`
		New     uint64   `json:"new"`
		OldRoot []byte   `json:"old_root"`
		NewRoot []byte   `json:"new_root"`
		Proof   [][]byte `json:"proof"`
	}
	if err := json.Unmarshal(raw, &steps); err != nil {
		return err
	}
	for _, step := range steps {
		where := fmt.Sprintf("from %d to %d entries", step.Old, step.New)
		err := merkle.VerifyConsistency(rfc6962.DefaultHasher, step.Old, step.New, step.Proof, step.OldRoot, step.NewRoot)
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		if step.Old == 0 {
			continue // The checksum database knows no empty tree.
		}
		var path tlog.TreeProof
		for _, hash := range step.Proof {
			path = append(path, tlog.Hash(hash))
		}
		err = tlog.CheckTree(path, int64(step.New), tlog.Hash(step.NewRoot), int64(step.Old), tlog.Hash(step.OldRoot))
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
	fmt.Printf("consistency: %d\n", len(steps))
	return nil
}
