;; ends: Trap
(type $t (func (result i64)))
(table funcref (elem $f))
(func $f)
(func $attack
  (drop (call_indirect (type $t) (i32.const 0))))
