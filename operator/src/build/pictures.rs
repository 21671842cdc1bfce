//! The ConfigMap with the pictures of a result, written and read.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::pictures::Pictures;

/// Name of the entry with the course of the registration.
const CURVE: &str = "curve.json";

/// The pictures, under the metadata of [`super::metadata::pictures_metadata`].
pub fn config_map(metadata: ObjectMeta, pictures: Pictures) -> ConfigMap {
    let Pictures { files, curve } = pictures;
    let files = files.into_iter();
    // Numbers that came as JSON can be written as JSON.
    let curve = (!curve.is_empty()).then(|| serde_json::to_string(&curve).unwrap_or_default());
    ConfigMap {
        metadata,
        binary_data: Some(files.map(|(name, file)| (name, ByteString(file))).collect()),
        data: curve.map(|curve| BTreeMap::from([(CURVE.to_owned(), curve)])),
        // A result does not change, and nobody has to watch what cannot change.
        immutable: Some(true),
    }
}

/// The pictures in a ConfigMap like that of [`config_map`].
pub fn read(map: ConfigMap) -> Pictures {
    let files = map.binary_data.unwrap_or_default().into_iter();
    let curve = map.data.unwrap_or_default().remove(CURVE);
    let curve = curve.and_then(|text| serde_json::from_str(&text).ok());
    let files = files.map(|(name, file)| (name, file.0)).collect();
    Pictures::new(files, curve.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use alignment_api::CurvePoint;
    use serde_json::json;

    use super::*;
    use crate::build::metadata::pictures_metadata;
    use crate::pictures::tests::png;
    use crate::validate::tests::with;

    #[test]
    fn pictures_go_with_their_request_and_never_change() {
        let request = with(&[]);
        let pictures = Pictures {
            files: BTreeMap::from([("after-0.png".to_owned(), png(9, 9))]),
            curve: vec![CurvePoint {
                level: 0,
                iteration: 1,
                metric: 0.5,
            }],
        };
        let map = config_map(pictures_metadata(&request), pictures.clone());
        assert_eq!(read(map.clone()), pictures);
        let map = serde_json::to_value(map).unwrap();
        let name = request.metadata.name.as_deref().unwrap();
        let metadata = &map["metadata"];
        assert_eq!(metadata["name"], format!("voluba-pictures-{name}"));
        assert_eq!(metadata["namespace"], json!(request.metadata.namespace));
        assert_eq!(metadata["labels"]["voluba.ebrains.eu/request"], name);
        let owner = &metadata["ownerReferences"][0];
        assert_eq!(owner["uid"], json!(request.metadata.uid));
        assert_eq!(map["immutable"], true);
        let file = ByteString(png(9, 9));
        assert_eq!(map["binaryData"], json!({"after-0.png": file}));
        let curve = r#"[{"level":0,"iteration":1,"metric":0.5}]"#;
        assert_eq!(map["data"], json!({"curve.json": curve}));
    }
}
