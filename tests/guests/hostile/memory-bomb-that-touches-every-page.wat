;; ends: MemoryLimit
(func $attack
  (loop $l
    (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
    (memory.fill
      (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 1048576))
      (i32.const 7)
      (i32.const 1048576))
    (br $l)))
