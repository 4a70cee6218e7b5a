;; ends: Timeout
(func $attack (local $s i32)
  (loop $a
    (local.set $s (i32.add (local.get $s) (i32.load (i32.const 0))))
    (loop $b
      (local.set $s (i32.add (local.get $s) (i32.load (i32.const 4))))
      (br $b))
    (br $a)))
