;; call run: fuel_exhausted
;; Each of 1,024 buffers is the whole memory: 16 GiB in one call of the host.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 256)
  (func (export "run") (result i32)
    (local $at i32)
    (loop $more
      (i32.store (i32.add (local.get $at) (i32.const 4)) (i32.const 16777216))
      (br_if $more (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 8192))))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1024) (i32.const 8192)))
    (i32.const 0)))
