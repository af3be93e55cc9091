;; call run: rejected: the code 52
;; There is none.
(module
  (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    (call $path_open (i32.const 3) (i32.const -1) (i32.const -1) (i32.const -1) (i32.const -1)
      (i64.const -1) (i64.const -1) (i32.const -1) (i32.const -1))))
