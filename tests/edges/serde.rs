//! Names, layouts and tensors through a format that describes itself, and through one that does
//! not.

use serde::{Serialize, de::DeserializeOwned};
use tidelock::{
    AnyLayout, Buffer, DType, Layout, Tensor, View,
    any::{AnyTensor, TensorMap},
    element::{f6e2m3x4, f8e4m3},
    half::bf16,
    location::Host,
    sim::Sim,
};

/// What `value` is after JSON, and after postcard.
fn round<T: Serialize, U: DeserializeOwned>(value: &T) -> [U; 2] {
    let text = serde_json::to_string(value).unwrap();
    let bytes = postcard::to_allocvec(value).unwrap();
    [serde_json::from_str(&text).unwrap(), postcard::from_bytes(&bytes).unwrap()]
}

fn refused<U: DeserializeOwned>(json: &str) -> String {
    serde_json::from_str::<U>(json).err().expect(json).to_string()
}

#[test]
fn names_and_layouts() {
    for dtype in DType::ALL {
        assert_eq!(round::<_, DType>(dtype), [*dtype; 2]);
    }
    assert_eq!(serde_json::to_string(&DType::F8E4M3).unwrap(), "\"f8e4m3\"");
    assert_eq!(serde_json::from_str::<DType>("\"BF16\"").unwrap(), DType::Bf16);
    let layout = Layout::strided([3, 4], [1, 6]).unwrap();
    assert_eq!(serde_json::to_string(&layout).unwrap(), r#"{"shape":[3,4],"stride":[1,6]}"#);
    assert_eq!(round::<_, Layout<2>>(&layout), [layout; 2]);
    assert_eq!(round::<_, AnyLayout>(&layout), [layout.any(); 2]);
    // A layout of rank 0, which the original loses.
    let scalar = Layout::new([]).unwrap();
    assert_eq!(round::<_, Layout<0>>(&scalar), [scalar; 2]);
}

/// The outputs of a request travel as name, layout and dtype, and are allocated on arrival.
#[test]
fn a_request() {
    let outputs = vec![
        ("logits".to_owned(), AnyLayout::new(&[1, 32]).unwrap(), DType::F32),
        ("finished".to_owned(), AnyLayout::new(&[]).unwrap(), DType::Bool),
    ];
    assert_eq!(round::<_, Vec<(String, AnyLayout, DType)>>(&outputs), [outputs.clone(), outputs]);
}

#[test]
fn tensors_and_buffers() {
    let values: Vec<bf16> = [1.0, -2.5, 0.0, 3.0].map(bf16::from_f32).to_vec();
    let tensor = Buffer::<bf16, Host>::from_slice(&values).unwrap().tensor([2, 2]).unwrap();
    for back in round::<_, Tensor<bf16, Host, 2>>(&tensor) {
        assert_eq!((back.shape(), &back.buffer()[..]), ([2, 2], &values[..]));
    }
    for back in round::<_, AnyTensor<Host>>(&tensor.view()) {
        assert_eq!(back.view().to_string(), "bf16 (2,2):(2,1)");
    }
    let flags = Buffer::<bool, Host>::from_slice(&[true, false]).unwrap();
    assert!(round::<_, Buffer<bool, Host>>(&flags).iter().all(|back| back[..] == [true, false]));
    let packed = Buffer::<f6e2m3x4, Host>::from_slice(&[f6e2m3x4::from_f32([1.0, 2.0, 7.5, -0.5])]).unwrap();
    assert!(round::<_, Buffer<f6e2m3x4, Host>>(&packed).iter().all(|back| back[..] == packed[..]));
    let scales = Buffer::<f8e4m3, Host>::from_slice(&[f8e4m3::from_f32(0.5); 3]).unwrap();
    assert!(round::<_, Buffer<f8e4m3, Host>>(&scales).iter().all(|back| back[..] == scales[..]));
    // An empty tensor and a scalar, which the original loses.
    let empty = Buffer::<u8, Host>::zeros(0).unwrap().tensor([0, 4]).unwrap();
    assert!(round::<_, Tensor<u8, Host, 2>>(&empty).iter().all(|back| back.shape() == [0, 4]));
    let scalar = Buffer::<i64, Host>::from_slice(&[-7]).unwrap().tensor([]).unwrap();
    assert!(round::<_, Tensor<i64, Host, 0>>(&scalar).iter().all(|back| back.view().get([]) == Ok(&-7)));
}

#[test]
fn maps() {
    let ids = [3_u32, 5, 8];
    let mut map = TensorMap::<Sim<'_>>::new();
    map.produce("ids", View::from(&ids[..]).tensor([3]).unwrap()).unwrap();
    map.produce("mask", Buffer::<bool, Host>::from_slice(&[true]).unwrap().tensor([1]).unwrap()).unwrap();
    for mut back in round::<_, TensorMap<'_, Sim<'static>>>(&map) {
        assert_eq!((back.len(), back.get::<bool, Host, 1>("mask").unwrap().get([0])), (2, Ok(&true)));
        let ids = back.consume_tensor::<u32, Host, 1>("ids").unwrap();
        assert_eq!(ids.buffer()[..], [3, 5, 8]);
    }
}

#[test]
fn what_is_refused() {
    assert!(refused::<DType>("\"f7\"").contains("there is no dtype of this name"));
    assert!(refused::<AnyLayout>(r#"{"shape":[2,3],"stride":[1]}"#).contains("`stride` has 1 axes"));
    assert!(refused::<AnyLayout>(r#"{"shape":[2,-3],"stride":[1,1]}"#).contains("invalid value"));
    assert!(refused::<AnyLayout>(r#"{"shape":[9223372036854775807,3],"stride":[1,1]}"#).contains("larger than"));
    assert!(refused::<Layout<3>>(r#"{"shape":[2],"stride":[1]}"#).contains("`layout` has 1 axes"));
    let tensor =
        |dtype: &str, shape: &str, bytes: &str| format!(r#"{{"dtype":"{dtype}","shape":{shape},"bytes":{bytes}}}"#);
    assert!(refused::<AnyTensor<Host>>(&tensor("f32", "[2]", "[0,0,0,0]")).contains("`bytes` has 1 elements where 2"));
    assert!(refused::<AnyTensor<Host>>(&tensor("bool", "[2]", "[1,2]")).contains("`bytes`[1] has bytes"));
    assert!(refused::<AnyTensor<Host>>(&tensor("u8", "[1]", "[256]")).contains("invalid value"));
    assert!(refused::<AnyTensor<Host>>(&tensor("f64", "[4611686018427387904]", "[]")).contains("elements"));
    assert!(refused::<Tensor<bf16, Host, 1>>(&tensor("f16", "[1]", "[0,0]")).contains("are f16 where bf16 is needed"));
    assert!(refused::<Tensor<u8, Host, 2>>(&tensor("u8", "[1]", "[0]")).contains("axes"));
    let twice = format!(r#"{{"a":{0},"a":{0}}}"#, tensor("u8", "[1]", "[0]"));
    assert!(refused::<TensorMap<'_, Sim<'static>>>(&twice).contains("there is a tensor `a` already"));
    // A length that lies asks for no memory.
    let mut bytes = postcard::to_allocvec(&("u8", vec![1_usize << 40])).unwrap();
    bytes.extend([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]);
    assert!(postcard::from_bytes::<AnyTensor<Host>>(&bytes).is_err());
    let turned = [1, 2, 3, 4];
    let turned = View::from(&turned[..]).tensor([2, 2]).unwrap().transpose(0, 1).unwrap();
    assert!(serde_json::to_string(&turned).unwrap_err().to_string().contains("does not continue"));
}
